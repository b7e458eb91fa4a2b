"""The codec between a bias and its name: ``asym-0.4``, ``lt-10+other:sym-0.2``, ``human-worst``.

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
GENERATED = ("type1", "type2", "type3")
"""Feature-dependent noise of PLC (Zhang et al., ICLR 2021), drawn from a teacher's posterior."""
HIDING = {"partial", "labels"}
"""After these the label of a sample is one of a set of candidates."""
_NUMBERED: dict[str, tuple[str, ...] | None] = {
    "lt": (),
    "sym": ("other", "plc"),
    "asym": None,
    "partial": (),
    "labels": (),
    **dict.fromkeys(GENERATED, ("plc", "published")),
}
"""Kinds with a number -> variants besides the default; None: any map that the dataset names."""
_WORDED = {
    "human": ("aggregate, random1, random2, random3, worst or noisy", "aggregate|random[123]|worst|noisy"),
    "file": ("the first 12 hex digits of the labels' sha256", "[0-9a-f]{12}"),
}
"""Kinds with a word: what it is, and its form."""


@dataclass(frozen=True)
class BiasStep:
    """One step of a bias.

    ``lt``: long tail, value = imbalance factor >= 1. ``sym``: symmetric noise at a rate in [0, 1],
    over all classes, or only the other ones (variant ``other``). ``asym``: asymmetric noise at a rate
    in [0, 1] along the dataset's default class map, or along the map that the variant names. The variant
    ``plc`` of both is the second half of PLC's hybrid noise, drawn as its code draws it.

    ``type1``, ``type2``, ``type3``: feature-dependent noise at a level in [0, 1]: drawn from a teacher's
    posterior with the factor that gives the level, or with the published factor (variant ``published``);
    or the labels that PLC published (variant ``plc``).

    ``partial``: the label hidden in a set of candidates, which every other class joins at a rate in [0, 1].

    ``labels``: so many labels, equally many of each class, and no others. A long tail behind it, in place of
    before, is of the unlabelled samples.

    ``human``: the CIFAR-N labels of which ``word`` says which. ``file``: a user's own label file, whose
    content ``word`` pins.
    """

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
    def reads(self) -> str | None:
        """The input that the step takes its labels from: ``labels``, ``teacher``, or none (a draw)."""
        if self.kind in _WORDED or (self.kind in GENERATED and self.variant == "plc"):
            return "labels"
        return "teacher" if self.kind in GENERATED else None


def needs(steps: tuple[BiasStep, ...]) -> set[str]:
    """The inputs of a bias besides the raw labels: ``labels`` (a label file), ``teacher`` (a posterior).

    >>> needs(parse_bias("lt-10+plc:type1-0.35+other:sym-0.3"))
    {'labels'}
    """
    return {step.reads for step in steps if step.reads}


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
    kinds = [step.kind for step in steps]
    tail = tail_of_the_unlabelled(steps)
    if "lt" in (kinds[:-1] if tail else kinds[1:]):
        raise ValueError(f"{name!r}: a long tail goes first, before the label noise, or last, after labels-N")
    noise = [step for step in steps if step.kind != "lt"]
    late = [step.name for step in noise[1:] if step.reads]
    if late:
        raise ValueError(f"{name!r}: {late[0]} replaces every label, so it goes before the other noise")
    if set(kinds[: -2 if tail else -1]) & HIDING:
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
        raise ValueError(
            f"{name!r}: {text!r} is not a bias; write lt-FACTOR, [other:]sym-RATE, [map:]asym-RATE,"
            " [plc:]type1-LEVEL, human-WHICH, partial-RATE or labels-NUMBER, joined by +"
        )
    kind, variant = match["kind"], match["variant"]
    if kind not in _NUMBERED and kind not in _WORDED:
        raise ValueError(f"{name!r}: unknown bias {kind!r}; known are {', '.join((*_NUMBERED, *_WORDED))}")
    variants = _NUMBERED.get(kind, ())
    if variant is not None and variants is not None and variant not in variants:
        raise ValueError(
            f"{name!r}: {kind} has no variant {variant!r}; it has {', '.join(variants) or 'none'}"
        )
    if kind in _WORDED:
        return BiasStep(kind, word=_word(kind, match["value"], name))
    return BiasStep(kind, _number(kind, match["value"], name), variant)


def _word(kind: str, text: str, name: str) -> str:
    meaning, form = _WORDED[kind]
    if not re.fullmatch(form, text):
        raise ValueError(f"{name!r}: {kind}-{text} is none; after {kind}- goes {meaning}")
    return text


def _number(kind: str, text: str, name: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise ValueError(f"{name!r}: {text!r} is not a number") from None
    if kind == "lt" and not 1 <= value < inf:
        raise ValueError(f"{name!r}: the imbalance factor is {value:g}; it must be >= 1 and finite")
    if kind == "labels" and not (value >= 1 and value.is_integer()):
        raise ValueError(f"{name!r}: the number of labels is {value:g}; it must be a whole number")
    if kind not in ("lt", "labels") and not 0 <= value <= 1:
        raise ValueError(f"{name!r}: the rate is {value:g}; it must lie in [0, 1]")
    return value
