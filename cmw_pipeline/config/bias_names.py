"""The codec between a bias and its name: ``asym-0.4``, ``lt-10+other:sym-0.2``, ``human-worst``.

A name is a chain of steps joined by ``+`` and applied from left to right; a step is
``[variant:]kind-value``. ``none`` is the empty chain. Exactly one name stands for one chain, so two
biases never share a path.
"""

import re
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

from cmw_pipeline.config.bias_kinds import KINDS, Kind, Variant

UNBIASED = "none"
_STEP = re.compile(r"(?:(?P<variant>[a-z][a-z0-9-]*):)?(?P<kind>[a-z][a-z0-9]*)-(?P<value>[^:+]+)")
_MAX_CHARS = 100
"""A name is part of a file name, and those end at 255 bytes."""


@dataclass(frozen=True)
class BiasStep:
    """One step of a bias: a kind of :data:`~cmw_pipeline.config.bias_kinds.KINDS` with its number or word."""

    kind: str
    value: float = 0.0
    variant: str | None = None
    word: str | None = None

    @property
    def name(self) -> str:
        """The step's part of a bias name."""
        # + 0.0 turns the float -0.0 into 0.0.
        value = self.word or format(Decimal(repr(self.value + 0.0)), "f").removesuffix(".0")
        return f"{self.variant}:{self.kind}-{value}" if self.variant else f"{self.kind}-{value}"

    @property
    def way(self) -> Variant:
        """How the step is drawn.

        Raises:
            KeyError: its kind has no such variant.
        """
        found = KINDS[self.kind].variant(self.variant)
        if found is None:
            raise KeyError(f"{self.kind} has no variant {self.variant}")
        return found

    @property
    def reads(self) -> str | None:
        """The input that the step takes its labels from: ``labels``, ``teacher``, or none (a draw)."""
        return self.way.reads

    @property
    def place(self) -> Literal["tail", "noise", "hiding"]:
        """Where in a bias the step may stand."""
        return KINDS[self.kind].place

    @property
    def words(self) -> str:
        """The step as it is called in a table."""
        percent, variant = f"{100 * self.value:g}%", f" ({self.variant})" if self.variant else ""
        return KINDS[self.kind].words.format(
            percent=percent, variant=variant, value=self.value, word=self.word
        )


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

    >>> parse_bias("asym-0.4") == (BiasStep("asym", 0.4),)
    True
    """
    if name == UNBIASED:
        return ()
    if len(name) > _MAX_CHARS:
        raise ValueError(f"{name[:20]!r}...: {len(name)} characters; a bias has at most {_MAX_CHARS}")
    steps = tuple(_parse_step(part, name) for part in name.split("+"))
    tail = tail_of_the_unlabelled(steps)
    if any(step.place == "tail" for step in (steps[:-1] if tail else steps[1:])):
        raise ValueError(f"{name!r}: a long tail goes first, before the label noise, or last, after labels-N")
    noise = [step for step in steps if step.place != "tail"]
    late = [step.name for step in noise[1:] if step.reads]
    if late:
        raise ValueError(f"{name!r}: {late[0]} replaces every label, so it goes before the other noise")
    if any(step.place == "hiding" for step in steps[: -2 if tail else -1]):
        raise ValueError(f"{name!r}: partial and few labels go last: they hide what the other steps gave")
    if format_bias(steps) != name:
        raise ValueError(f"{name!r}: write it as {format_bias(steps)!r}")
    return steps


def tail_of_the_unlabelled(steps: tuple[BiasStep, ...]) -> bool:
    """Whether the bias ends in few labels and a long tail, which is then of the unlabelled samples only."""
    return [step.kind for step in steps[-2:]] == ["labels", "lt"]


def _parse_step(text: str, name: str) -> BiasStep:
    match = _STEP.fullmatch(text)
    if match is None:
        forms = ", ".join(_form(*entry) for entry in KINDS.items())
        raise ValueError(f"{name!r}: {text!r} is not a bias; write {forms}, joined by +")
    kind = KINDS.get(match["kind"])
    if kind is None:
        raise ValueError(f"{name!r}: unknown bias {match['kind']!r}; known are {', '.join(KINDS)}")
    if kind.variant(match["variant"]) is None:
        there = ", ".join(filter(None, kind.variants)) or "none"
        raise ValueError(f"{name!r}: {match['kind']} has no variant {match['variant']!r}; it has {there}")
    try:
        value = kind.value.read(match["value"], match["kind"])
    except ValueError as error:
        raise ValueError(f"{name!r}: {error}") from None
    if isinstance(value, str):
        return BiasStep(match["kind"], word=value)
    return BiasStep(match["kind"], value, match["variant"])


def _form(name: str, kind: Kind) -> str:
    """How a step of this kind is written: ``[other:|plc:]sym-RATE``."""
    variants = "|".join(f"{variant}:" for variant in kind.variants if variant)
    return f"[{variants}]" * bool(variants) + f"{name}-{kind.value.sign}"
