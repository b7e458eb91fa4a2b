"""What an audit finds: tables, estimates, a verdict; and the files that they are written to."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd

from cmw_pipeline.io.atomic import remove_file, write_text
from cmw_pipeline.io.tables import write_table
from cmw_pipeline.types import Floats

SUSPECT_COLUMNS = {
    "id": "int64",
    "path": "string",
    "given": "string",
    "suggested": "string",
    "rank": "int64",
    "margin": "float64",
    "loss": "float64",
    "weight": "float64",
    "in_list": "bool",
    "sampled": "bool",
    "why": "string",
    "content": "string",
}
"""One row a training sample, the most suspicious first. ``id``: its row in the dataset. ``path``: below the
dataset's folder, or its own name; empty without one. ``rank``: from 1. ``margin``: prior-adjusted trajectory
margin. ``loss``: cross-entropy with the given label out of fold, null without folds. ``weight``: what the
learned function gives it. ``sampled``: drawn at random from the list, for the review that certifies it.
``content``: of the sample, see :func:`short`."""
CLASS_COLUMNS = {
    "name": "string",
    "count": "int64",
    "group": "int64",
    "flagged": "int64",
    "noise_in": "float64",
    "noise_in_low": "float64",
    "noise_in_high": "float64",
    "noise_out": "float64",
    "noise_out_low": "float64",
    "noise_out_high": "float64",
    "action": "string",
}
"""One row a class, in the order of the class ids. ``group``: which curve of the weighting is its own.
``flagged``: of its samples, those in the list. ``noise_in``: estimated share of the samples so labelled that
are something else; ``noise_out``: of its true samples that are labelled otherwise; each with a 95% interval;
null without folds. ``action``: what to do, a sentence."""
TRANSITION_COLUMNS = {"true": "string", "given": "string", "share": "float64"}
CURVE_COLUMNS = {"group": "int64", "loss": "float64", "weight": "float64"}
"""The learned weighting function of each class group, drawn over losses."""
CONFLICT_COLUMNS = {"content": "string", "id": "int64", "path": "string", "given": "string"}
"""The same content under several labels, so at least one of them is wrong; rows of one ``content`` follow
each other."""
KNOWN_COLUMNS = {"rank": "int64", "wrong": "bool", "precision": "float64", "recall": "float64"}
"""One row a sample whose clean label is known, in the order of the ranks: whether its given label is wrong,
and the share of wrong labels among these rows down to this one, and of all wrong ones that they have."""
REVIEW_COLUMNS = {
    "id": "int64",
    "verdict": "string",
    "label": "string",
    "sampled": "bool",
    "given": "string",
    "content": "string",
}
"""``reviewed.csv``, which a person makes of the list. ``verdict``: y (the given label is wrong), n (it is
right), skip, or empty (not looked at). ``label``: after y, the right label; empty: not known, and the row is
left out of training. Every ``sampled`` row of the list stands in it, looked at or not. By ``content`` a row
is found again in data that have changed since; ``given`` is the label that the verdict is about. A file
written by hand may do without these two."""

Picture: TypeAlias = npt.NDArray[np.uint8]
"""(H, W, 3)."""


@dataclass(frozen=True)
class Audit:
    """What an audit has found. Tables have the columns that this module names."""

    suspects: pd.DataFrame
    classes: pd.DataFrame
    transition: Floats | None
    """(K, K) share of the samples of class j (row) that are labelled i (column); None without folds."""
    curves: pd.DataFrame
    conflicts: pd.DataFrame
    verdict: str
    """Two sentences."""
    notes: dict[str, Any]
    """How it was made and what was counted, fit for JSON."""
    picture: Callable[[int], Picture] | None = None
    """The picture of a sample, by its id; None where samples are vectors."""
    known: pd.DataFrame | None = None
    """How right the ranking is, where clean labels are known; None where they are not."""
    reviewed: pd.DataFrame | None = None
    """Marks of the review that it was made with, which the next ``reviewed.csv`` repeats."""

    @property
    def listed(self) -> pd.DataFrame:
        """The suspects that are in the list."""
        return self.suspects[self.suspects["in_list"]]

    def write(self, folder: Path) -> None:
        """Write ``suspects.csv`` and ``.parquet``, the other tables, and at the end ``audit.json``.

        Raises:
            SystemFault: the disk is full, and the like.
        """
        write_table(folder / "suspects.parquet", self.suspects, SUSPECT_COLUMNS)
        tables = {"suspects": self.suspects, "classes": self.classes, "curves": self.curves}
        tables["conflicts"] = self.conflicts
        if self.known is not None:
            tables["known"] = self.known
        if self.transition is not None:
            tables["transition"] = transition_rows(self.transition, self.classes["name"].tolist())
        for name in ("known", "transition"):
            remove_file(folder / f"{name}.csv")  # of an earlier audit
        for name, frame in tables.items():
            write_text(folder / f"{name}.csv", frame.to_csv(index=False))
        summary = {"verdict": self.verdict, **self.notes}
        write_text(folder / "audit.json", json.dumps(summary, indent=2, ensure_ascii=False) + "\n")


def short(content: "pd.Series[str]") -> "pd.Series[str]":
    """Twelve digits of what tells equal samples, behind a letter: to spreadsheets no number."""
    return "x" + content.str[:12]


def transition_rows(transition: Floats, names: list[str]) -> pd.DataFrame:
    """The entries of a transition matrix above 0, one row each: true class, given label, share."""
    true, given = np.nonzero(transition > 0)
    title = np.array(names, dtype=object)
    columns = title[true], title[given], transition[true, given]
    return pd.DataFrame(dict(zip(TRANSITION_COLUMNS, columns, strict=True)))
