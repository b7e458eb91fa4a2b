"""What a reader finds of a user's dataset, before anything about it is checked."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from cmw_pipeline.errors import ConfigError
from cmw_pipeline.types import Images, Vectors

ROLES = ("label", "path", "split", "trusted", "clean_label", "group", "id")
"""Columns of :class:`Found`, those that are there."""
_LABELS = ("label", "labels", "class", "target")
USUAL = {
    "label": (*_LABELS, "y"),
    "path": ("path", "file_name", "filename", "file", "image_path"),
    "split": ("split",),
    "trusted": ("trusted",),
    "clean_label": ("clean_label",),
    "group": ("group",),
    "id": ("id", "ids"),
}
"""The names that a column is looked for under where none was given, in capitals or not."""


@dataclass(frozen=True)
class Columns:
    """What the columns of a table are called; None: by one of their usual names, if it is there.

    ``features`` is one column of vectors, or the prefix of the columns of numbers.
    """

    label: str | None = None
    path: str | None = None
    features: str | None = None
    split: str | None = None
    trusted: str | None = None
    clean_label: str | None = None
    group: str | None = None
    id: str | None = None

    def among(self, names: list[str], place: Path) -> dict[str, str]:
        """Role -> the column that has it.

        Raises:
            ConfigError: a column that was asked for is not there; or none could be the label, or several.
        """
        found: dict[str, str] = {}
        taken = {getattr(self, role) for role in ROLES}
        free = {name.lower(): name for name in reversed(names) if name not in taken}
        likely = [free[name] for name in _LABELS if name in free]
        if self.label is None and len(likely) > 1:
            hint = f"say which: --label {likely[0]}; what else the table holds becomes features"
            raise ConfigError(f"{place}: {' and '.join(likely)} could each be the labels", hint)
        for role in ROLES:
            asked = getattr(self, role)
            if asked is not None and asked not in names:
                raise ConfigError(f"{place}: no column {asked!r}; there are {listed(names)}")
            name = asked or usual(role, list(free.values()))
            if name is not None:
                found[role] = name
        if "label" not in found:
            hint = "name it: --label COLUMN"
            raise ConfigError(f"{place}: no column of labels; there are {listed(names)}", hint)
        return found


@dataclass(frozen=True)
class Found:
    """The rows of a dataset as they stand there."""

    place: Path
    rows: pd.DataFrame
    """One a sample, with the columns of ``ROLES`` that there are; labels as they are written."""
    root: Path | None = None
    """What paths are relative to; None where samples are vectors."""
    vectors: npt.NDArray[Any] | None = None
    """(N, D) numbers, as they stand there."""
    images: Images | None = None
    features: tuple[str, ...] = ()
    """Names of the features, where they have any."""
    first: int = 1
    """Number of the first row, as the user counts: 2 in a CSV file with a header."""
    unit: str = "row"


def usual(role: str, names: list[str]) -> str | None:
    """The column that has one of the usual names of a role, in capitals or not; None: there is none."""
    among = {name.lower(): name for name in reversed(names)}
    return next((among[name] for name in USUAL[role] if name in among), None)


def listed(names: list[str], most: int = 12) -> str:
    """Names of columns for a message, not too many of them."""
    shown = ", ".join(names[:most])
    return shown + (f" and {len(names) - most} more" if len(names) > most else "")


def holds_lists(column: "pd.Series[Any]") -> bool:
    """Whether a column has a list of anything in some row."""
    lists = (isinstance(value, list | np.ndarray) for value in column)
    return column.dtype == object and any(lists)


def stacked(values: "pd.Series[float]", place: Path, name: str) -> Vectors:
    """(N, D) of a column that holds a list of numbers in each row.

    Raises:
        ConfigError: lists of several lengths, or something else.
    """
    lengths = {len(value) if hasattr(value, "__len__") else -1 for value in values}
    if len(lengths) != 1 or min(lengths) < 1:
        raise ConfigError(f"{place}: column {name!r} does not hold vectors of one length")
    try:
        return np.stack([np.asarray(value, dtype=np.float32) for value in values])
    except (TypeError, ValueError):
        raise ConfigError(f"{place}: column {name!r} does not hold vectors of numbers") from None
