"""The codec between a bias and its name: ``asym-0.4``, ``lt-100``, ``lt-10+other:sym-0.2``.

A name is a chain of steps joined by ``+`` and applied from left to right; a step is
``[variant:]kind-value``. ``none`` is the empty chain. Exactly one name stands for one chain, so two
biases never share a path.
"""

import re
from dataclasses import dataclass
from decimal import Decimal
from math import inf

UNBIASED = "none"
_STEP = re.compile(r"(?:(?P<variant>[a-z][a-z0-9-]*):)?(?P<kind>[a-z][a-z0-9]*)-(?P<value>[^:+]+)")
_MAX_CHARS = 100
"""A name is part of a file name, and those end at 255 bytes."""
_VARIANTS = {"lt": (), "sym": ("other",), "asym": None}
"""Variants a kind has besides its default; None: any map that the dataset names."""


@dataclass(frozen=True)
class BiasStep:
    """One step of a bias.

    ``lt``: long tail, value = imbalance factor >= 1. ``sym``: symmetric noise at a rate in [0, 1],
    over all classes, or only the other ones (variant ``other``). ``asym``: asymmetric noise at a rate
    in [0, 1] along the dataset's default class map, or along the map that the variant names.
    """

    kind: str
    value: float
    variant: str | None = None

    @property
    def name(self) -> str:
        """The step's part of a bias name."""
        # + 0.0 turns the float -0.0 into 0.0.
        number = format(Decimal(repr(self.value + 0.0)), "f").removesuffix(".0")
        return f"{self.variant}:{self.kind}-{number}" if self.variant else f"{self.kind}-{number}"


def format_bias(steps: tuple[BiasStep, ...]) -> str:
    """Name a chain of steps.

    >>> format_bias((BiasStep("lt", 10.0), BiasStep("sym", 0.2, "other")))
    'lt-10+other:sym-0.2'
    """
    return "+".join(step.name for step in steps) or UNBIASED


def parse_bias(name: str) -> tuple[BiasStep, ...]:
    """Read a bias name; the inverse of :func:`format_bias`.

    Raises:
        ValueError: the name is not one this codec writes; the message says what would be right.

    >>> parse_bias("asym-0.4")
    (BiasStep(kind='asym', value=0.4, variant=None),)
    """
    if name == UNBIASED:
        return ()
    if len(name) > _MAX_CHARS:
        raise ValueError(f"{name[:20]!r}...: {len(name)} characters; a bias has at most {_MAX_CHARS}")
    steps = tuple(_parse_step(part, name) for part in name.split("+"))
    kinds = [step.kind for step in steps]
    if "lt" in kinds[1:]:
        raise ValueError(f"{name!r}: a long tail goes first, before the label noise")
    if format_bias(steps) != name:
        raise ValueError(f"{name!r}: write it as {format_bias(steps)!r}")
    return steps


def _parse_step(text: str, name: str) -> BiasStep:
    match = _STEP.fullmatch(text)
    if match is None:
        raise ValueError(
            f"{name!r}: {text!r} is not a bias; write lt-FACTOR, [other:]sym-RATE or [map:]asym-RATE,"
            " joined by +"
        )
    kind, variant = match["kind"], match["variant"]
    if kind not in _VARIANTS:
        raise ValueError(f"{name!r}: unknown bias {kind!r}; known are {', '.join(_VARIANTS)}")
    variants = _VARIANTS[kind]
    if variant is not None and variants is not None and variant not in variants:
        raise ValueError(
            f"{name!r}: {kind} has no variant {variant!r}; it has {', '.join(variants) or 'none'}"
        )
    try:
        value = float(match["value"])
    except ValueError:
        raise ValueError(f"{name!r}: {match['value']!r} is not a number") from None
    if kind == "lt" and not 1 <= value < inf:
        raise ValueError(f"{name!r}: the imbalance factor is {value:g}; it must be >= 1 and finite")
    if kind != "lt" and not 0 <= value <= 1:
        raise ValueError(f"{name!r}: the rate is {value:g}; it must lie in [0, 1]")
    return BiasStep(kind, value, variant)
