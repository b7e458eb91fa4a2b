"""The codec of meta-set names: how the trustworthy samples are chosen.

``clean-K``: K held-out clean images a class, balanced, removed from training.
``random-min``: n_min random training images a class, redrawn every epoch (n_min = the smallest class).
``labelled``: of few labels, the samples that have one.
``lowest-K``: the K lowest-loss training images a class, redrawn every epoch.
"""

import re
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class MetaRule:
    """How a meta-set is chosen; ``per_class`` is None where the smallest class decides."""

    kind: Literal["clean", "random", "lowest", "labelled"]
    per_class: int | None

    @property
    def name(self) -> str:
        """The inverse of :func:`parse_meta`."""
        if self.kind == "labelled":
            return "labelled"
        return "random-min" if self.kind == "random" else f"{self.kind}-{self.per_class}"


def parse_meta(name: str) -> MetaRule:
    """Read a meta-set name.

    Raises:
        ValueError: not a name of this codec.

    >>> parse_meta("clean-10")
    MetaRule(kind='clean', per_class=10)
    """
    if name == "random-min":
        return MetaRule("random", None)
    if name == "labelled":
        return MetaRule("labelled", None)
    match = re.fullmatch(r"(clean|lowest)-([1-9][0-9]*)", name)
    if match is None:
        raise ValueError(f"{name!r} is not a meta-set; write clean-K, lowest-K or random-min, or labelled")
    return MetaRule("clean" if match[1] == "clean" else "lowest", int(match[2]))
