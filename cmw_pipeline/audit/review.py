"""What a person found of the suspects: labels to replace, rows to trust, and a certificate of the list."""

import dataclasses
from collections.abc import Hashable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cmw_pipeline.audit.result import REVIEW_COLUMNS
from cmw_pipeline.audit.scores import certified_precision
from cmw_pipeline.config.plain_files import plain
from cmw_pipeline.data.own import OwnData
from cmw_pipeline.data.own.tables import csv_ways
from cmw_pipeline.errors import ConfigError, IntegrityError
from cmw_pipeline.types import UNUSED

WRONG, RIGHT, SKIP, UNSEEN = "y", "n", "skip", ""
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Review:
    """Rows of ``reviewed.csv``, checked against the dataset."""

    rows: pd.DataFrame

    def certificate(self) -> dict[str, float | int | str] | None:
        """What the random sample certifies of the list that it was drawn from; None before all are looked at.

        A suspect that was skipped counts as a right label.
        """
        drawn = self.rows[self.rows["sampled"]]
        if not len(drawn) or (drawn["verdict"] == UNSEEN).any():
            return None
        wrong = int((drawn["verdict"] == WRONG).sum())
        bound = certified_precision(wrong, len(drawn), CONFIDENCE)
        return {"reviewed": len(drawn), "wrong": wrong, "confidence": CONFIDENCE, "precision_at_least": bound}

    @property
    def unseen(self) -> int:
        """Rows of the random sample that nobody has looked at yet."""
        return int((self.rows["sampled"] & (self.rows["verdict"] == UNSEEN)).sum())


def read_review(file: Path, data: OwnData) -> Review:
    """Read ``reviewed.csv``.

    Raises:
        ConfigError: no such file.
        IntegrityError: not of its form, or of another dataset; names the line.
    """
    try:
        frame = pd.read_csv(plain(file), dtype=str, keep_default_na=False, **csv_ways(file))
    except FileNotFoundError:
        hint = "save the review in the report, and name that file"
        raise ConfigError(f"{file}: no such file", hint) from None
    except (OSError, ValueError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise IntegrityError(f"{file}: not a CSV file: {reason}") from None
    if missing := [name for name in REVIEW_COLUMNS if name not in frame]:
        raise IntegrityError(f"{file}: no column {missing[0]!r}; expected {', '.join(REVIEW_COLUMNS)}")
    names = data.class_names
    for line, row in enumerate(frame.to_dict("records"), 2):
        if problem := _problem(row, len(data.rows), names):
            raise IntegrityError(f"{file}: line {line}: {problem}")
    if frame["id"].duplicated().any():
        again = frame["id"][frame["id"].duplicated()].iloc[0]
        raise IntegrityError(f"{file}: the id {again} stands there twice")
    sampled = frame["sampled"].str.lower().isin(["true", "1"])
    return Review(frame[list(REVIEW_COLUMNS)].assign(id=frame["id"].astype(int), sampled=sampled))


def _problem(row: dict[Hashable, Any], count: int, names: tuple[str, ...]) -> str | None:
    if not row["id"].isdecimal() or int(row["id"]) >= count:
        return f"id {row['id']!r}; expected a row of the dataset, 0 to {count - 1}"
    if row["verdict"] not in (WRONG, RIGHT, SKIP, UNSEEN):
        return f"verdict {row['verdict']!r}; expected y, n, skip, or nothing"
    if row["verdict"] == WRONG and row["label"] and row["label"] not in names:
        return f"label {row['label']!r} is no class; there are {', '.join(names[:12])}"
    return None


def reviewed(data: OwnData, review: Review) -> OwnData:
    """The dataset with the labels that a person gave; looked-at rows are trusted.

    A row whose label is wrong, and whose right one is not known, is left out of training.
    """
    rows, number = data.rows.copy(), {name: place for place, name in enumerate(data.class_names)}
    seen = review.rows[review.rows["verdict"].isin([WRONG, RIGHT])]
    wrong = seen[seen["verdict"] == WRONG]
    known = wrong[wrong["label"] != ""]
    rows.loc[known["id"], "label"] = np.array([number[label] for label in known["label"]], dtype=np.int16)
    rows.loc[seen["id"], "trusted"] = True
    unknown = wrong["id"][wrong["label"] == ""]
    rows.loc[unknown, "trusted"], rows.loc[unknown, "split"] = False, UNUSED
    return dataclasses.replace(data, rows=rows)
