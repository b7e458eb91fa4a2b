"""What a person found of the suspects: labels to replace, rows to trust, and a certificate of the list."""

import csv
import dataclasses
import logging
from collections.abc import Hashable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cmw_pipeline.audit.result import REVIEW_COLUMNS, short
from cmw_pipeline.audit.scores import certified_precision
from cmw_pipeline.config.plain_files import plain
from cmw_pipeline.data.own import OwnData
from cmw_pipeline.data.own.tables import csv_ways
from cmw_pipeline.errors import ConfigError, IntegrityError
from cmw_pipeline.types import UNUSED

WRONG, RIGHT, SKIP, UNSEEN = "y", "n", "skip", ""
CONFIDENCE = 0.95
_TRUE, _FALSE = ("true", "1", "wahr", "vrai"), ("false", "0", "falsch", "faux", "")
"""As spreadsheets of several languages write them."""
_NEEDED = ("id", "verdict", "label", "sampled")
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Review:
    """Rows of ``reviewed.csv``, checked against the dataset."""

    rows: pd.DataFrame
    gone: pd.DataFrame
    """Those of samples that the dataset no longer has."""

    def certificate(self) -> dict[str, float | int | str] | None:
        """What the random sample certifies of the list that it was drawn from; None before all are looked at.

        A suspect that was skipped, or went before anybody looked, counts as a right label.
        """
        drawn = pd.concat([self.rows, self.gone]).query("sampled")
        if not len(drawn) or self.unseen:
            return None
        wrong = int((drawn["verdict"] == WRONG).sum())
        bound = certified_precision(wrong, len(drawn), CONFIDENCE)
        return {"reviewed": len(drawn), "wrong": wrong, "confidence": CONFIDENCE, "precision_at_least": bound}

    @property
    def unseen(self) -> int:
        """Rows of the random sample that nobody has looked at yet."""
        return int((self.rows["sampled"] & (self.rows["verdict"] == UNSEEN)).sum())

    @property
    def marked(self) -> pd.DataFrame:
        """What was said of labels; of the next list no row of it is a random sample."""
        return self.rows[self.rows["verdict"].isin([WRONG, RIGHT])].assign(sampled=False)


def read_review(file: Path, data: OwnData) -> Review:
    """Read ``reviewed.csv``.

    Rows that have moved since are found by their content; what is said of rows that are gone is left out.

    Raises:
        ConfigError: no such file.
        IntegrityError: not of its form, of another dataset, or of labels that have changed; names the line.
    """
    frame = _read(file)
    for line, row in enumerate(frame.to_dict("records"), 2):
        if problem := _problem(row, len(data.rows), data.class_names):
            raise IntegrityError(f"{file}: line {line}: {problem}")
    frame["sampled"] = frame["sampled"].str.lower().isin(_TRUE)
    frame["id"] = _found_again(frame, data.rows["content"])
    here, gone = frame[frame["id"] >= 0], frame[frame["id"] < 0]
    if len(gone):
        log.info("%s: %d of its %d rows are not found in the data", file, len(gone), len(frame))
    if here["id"].duplicated().any():
        again = here["id"][here["id"].duplicated()].iloc[0]
        raise IntegrityError(f"{file}: the id {again} stands there twice")
    return Review(_of_labels(here, data, file), gone)


def _read(file: Path) -> pd.DataFrame:
    try:
        frame: pd.DataFrame = pd.read_csv(plain(file), dtype=str, keep_default_na=False, **csv_ways(file))
    except FileNotFoundError:
        hint = "save the review in the report, and name that file"
        raise ConfigError(f"{file}: no such file", hint) from None
    except (OSError, ValueError, csv.Error) as error:
        reason = str(error).strip().partition("\n")[0]
        raise IntegrityError(f"{file}: not a CSV file: {reason}") from None
    if missing := [name for name in _NEEDED if name not in frame]:
        raise IntegrityError(f"{file}: no column {missing[0]!r}; expected {', '.join(_NEEDED)}")
    frame["verdict"] = frame["verdict"].str.lower()
    return frame.reindex(columns=list(REVIEW_COLUMNS), fill_value="")


def _problem(row: dict[Hashable, Any], count: int, names: tuple[str, ...]) -> str | None:
    if not row["id"].isdecimal() or (int(row["id"]) >= count and not row["content"]):
        return f"id {row['id']!r}; expected a row of the dataset, 0 to {count - 1}"
    if row["sampled"].lower() not in _TRUE + _FALSE:
        return f"sampled {row['sampled']!r}; expected True or False"
    if row["verdict"] not in (WRONG, RIGHT, SKIP, UNSEEN):
        return f"verdict {row['verdict']!r}; expected y, n, skip, or nothing"
    if row["verdict"] == WRONG and row["label"] and row["label"] not in names:
        return f"label {row['label']!r} is no class; there are {', '.join(names[:12])}"
    return None


def _found_again(frame: pd.DataFrame, content: "pd.Series[str]") -> "pd.Series[int]":
    """The row that each line is about: where it was, or else the only one of its content, or else -1."""
    now = short(content)
    alone = now[~now.duplicated(keep=False)]
    moved = frame["content"].map(pd.Series(alone.index, index=alone))
    ids = frame["id"].astype(int)
    stays = (frame["content"] == "") | (ids.map(now) == frame["content"])
    return ids.where(stays, moved.fillna(-1)).astype(int)


def _of_labels(frame: pd.DataFrame, data: OwnData, file: Path) -> pd.DataFrame:
    """The lines, each with the content of its row and the label that it is about.

    Raises:
        IntegrityError: a row has another label now, and not the one that the review gave it.
    """
    now = np.array(data.class_names, dtype=object)[data.labels[frame["id"]]]
    given = frame["given"].where(frame["given"] != "", now)
    another = frame["verdict"].isin([WRONG, RIGHT]) & (given != now) & (frame["label"] != now)
    if another.any():
        line = frame.index[another][0]
        what = f"the label {given[line]!r} was reviewed, and now it is {now[another][0]!r}"
        raise IntegrityError(
            f"{file}: line {line + 2}: {what}", "audit the data as they are, or drop the line"
        )
    content = short(data.rows["content"]).iloc[frame["id"]].to_numpy()
    return frame.assign(given=given, content=content)


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
