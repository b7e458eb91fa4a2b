"""The codec of meta-set names: how the trustworthy samples are chosen.

``clean-K``: K held-out clean images a class, balanced, removed from training.
``random-min``: n_min random training images a class, redrawn every epoch (n_min = the smallest class).
``labelled``: of few labels, the samples that have one.
``any-K``: K training images in all, drawn once, whatever their labels: for a meta loss that reads none.
``lowest-K``: the K lowest-loss training images a class, redrawn every epoch.
"""

import re
from dataclasses import dataclass
from typing import Any, Literal, cast


@dataclass(frozen=True)
class MetaRule:
    """How a meta-set is chosen; ``per_class`` is None where the smallest class decides, of ``any`` in all."""

    kind: Literal["clean", "random", "lowest", "labelled", "any"]
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
    match = re.fullmatch(r"(clean|lowest|any)-([1-9][0-9]*)", name)
    if match is None:
        raise ValueError(
            f"{name!r} is not a meta-set; write clean-K, lowest-K or random-min, or any-K or labelled"
        )
    return MetaRule(cast(Any, match[1]), int(match[2]))
