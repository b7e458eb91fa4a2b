"""The kinds of bias: what each one's value is, its variants, and what it is called in words.

A kind's draw is a function of :mod:`cmw_pipeline.bias`, named here and resolved where labels are made, so
that planning never loads it. Adding a kind: its entry here, its module there, its row in ``docs/data.md``,
and a test.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import inf
from types import MappingProxyType
from typing import Literal


@dataclass(frozen=True)
class Number:
    """A value that is a number in a range."""

    sign: str
    meaning: str
    range: str
    fits: Callable[[float], bool]

    def read(self, text: str, kind: str) -> float:
        """The number that stands behind the kind.

        Raises:
            ValueError: it is none, or out of range.
        """
        try:
            value = float(text)
        except ValueError:
            raise ValueError(f"{text!r} is not a number") from None
        if not self.fits(value):
            raise ValueError(f"the {self.meaning} is {value:g}; it must {self.range}")
        return value


@dataclass(frozen=True)
class Word:
    """A value that is a word of a form."""

    sign: str
    meaning: str
    form: str

    def read(self, text: str, kind: str) -> str:
        """The word that stands behind the kind.

        Raises:
            ValueError: it is not of the form.
        """
        if not re.fullmatch(self.form, text):
            raise ValueError(f"{kind}-{text} is none; after {kind}- goes {self.meaning}")
        return text


FACTOR = Number("FACTOR", "imbalance factor", "be >= 1 and finite", lambda value: 1 <= value < inf)
RATE = Number("RATE", "rate", "lie in [0, 1]", lambda value: 0 <= value <= 1)
COUNT = Number(
    "NUMBER", "number of labels", "be a whole number", lambda value: value >= 1 and value.is_integer()
)


@dataclass(frozen=True)
class Variant:
    """One way to draw a kind of bias.

    ``draw`` names the function, ``module:function`` in :mod:`cmw_pipeline.bias`. ``reads`` is the input that
    the labels are taken from: ``labels`` (a label file), ``teacher`` (a posterior), or none. ``looks_up`` is
    the fact of the dataset that the draw needs.
    """

    draw: str
    reads: Literal["labels", "teacher"] | None = None
    looks_up: Literal["class map", "label file", "factor"] | None = None


@dataclass(frozen=True)
class Kind:
    """One kind of bias.

    ``words`` say a step in a table. ``place`` is where in a bias it may stand: a ``tail`` first (or behind
    few labels), ``noise`` in between, what is ``hiding`` labels last.
    """

    value: Number | Word
    words: str
    variants: Mapping[str | None, Variant]
    place: Literal["tail", "noise", "hiding"] = "noise"

    def variant(self, name: str | None) -> Variant | None:
        """The variant of this name, the default one for None; None where there is no such variant."""
        return self.variants.get(name) or self.variants.get(ANY_MAP)


ANY_MAP = "MAP"
"""Stands for every class map that a dataset names."""
GENERATED = ("type1", "type2", "type3")
"""Feature-dependent noise of PLC (Zhang et al., ICLR 2021), drawn from a teacher's posterior."""


def _feature_dependent(roman: str) -> Kind:
    variants = {
        None: Variant("feature_dependent:at_level", reads="teacher"),
        "plc": Variant("given:from_file", reads="labels", looks_up="label file"),
        "published": Variant("feature_dependent:as_published", reads="teacher", looks_up="factor"),
    }
    return Kind(RATE, f"{{percent}} feature-dependent label noise, Type {roman}{{variant}}", variants)


KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        "lt": Kind(FACTOR, "long tail, factor {value:g}", {None: Variant("long_tail:draw")}, "tail"),
        "sym": Kind(
            RATE,
            "{percent} symmetric label noise{variant}",
            {
                None: Variant("symmetric:over_all"),
                "other": Variant("symmetric:over_others"),
                "plc": Variant("transition:draw_symmetric"),
                "freq": Variant("symmetric:by_frequency"),
            },
        ),
        "asym": Kind(
            RATE,
            "{percent} asymmetric label noise{variant}",
            {
                "plc": Variant("transition:draw_asymmetric", looks_up="class map"),
                ANY_MAP: Variant("asymmetric:draw", looks_up="class map"),
            },
        ),
        "partial": Kind(
            RATE,
            "candidate sets, which each wrong class joins at {percent}",
            {None: Variant("partial:draw")},
            "hiding",
        ),
        "labelled": Kind(
            RATE, "{percent} of each class's labels", {None: Variant("few_labels:draw_share")}, "hiding"
        ),
        "labels": Kind(COUNT, "{value:g} labels", {None: Variant("few_labels:draw")}, "hiding"),
        **{kind: _feature_dependent("I" * number) for number, kind in enumerate(GENERATED, 1)},
        "human": Kind(
            Word(
                "WHICH",
                "aggregate, random1, random2, random3, worst or noisy",
                "aggregate|random[123]|worst|noisy",
            ),
            "human label noise ({word})",
            {None: Variant("given:from_file", reads="labels", looks_up="label file")},
        ),
        "file": Kind(
            Word("DIGEST", "the first 12 hex digits of the labels' sha256", "[0-9a-f]{12}"),
            "file-{word}",
            {None: Variant("given:from_file", reads="labels")},
        ),
    }
)
"""By the name that stands in a bias: each kind's value, words, variants, and its place in a bias."""
