"""Samples without labels, for predictions."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cmw_pipeline.data.own.arrays import npz_vectors
from cmw_pipeline.data.own.folders import PICTURES
from cmw_pipeline.data.own.found import holds_lists, listed, stacked, usual
from cmw_pipeline.data.own.look import Bad, not_finite, refuse, words
from cmw_pipeline.data.own.tables import SUFFIXES, below, counted, named_vectors, read_frame, text_columns
from cmw_pipeline.errors import ConfigError
from cmw_pipeline.types import Vectors


def picture_files(
    place: Path, path: str | None = None, id_: str | None = None
) -> tuple[list[Path], list[str]]:
    """A picture, the pictures anywhere in a folder, or those that a table's column ``path`` names.

    Each has a name: its path, or what the table's column ``id_`` says.

    Raises:
        ConfigError: there is none, or no such column.
    """
    if place.suffix in SUFFIXES and not place.is_dir():
        frame = read_frame(place)
        names = [str(name) for name in frame]
        column = _column("path", path, names, place)
        if column is None:
            raise ConfigError(f"{place}: no column of pictures", "say which: --path COLUMN")
        files = [place.parent / str(below(place.parent, file)) for file in frame[column]]
        named = frame[_column("id", id_, names, place)] if id_ else files
    else:
        if path or id_:
            raise ConfigError(f"{place}: not a table, so it has no column {path or id_!r}")
        files = named = _pictures_below(place)
    if not files:
        raise ConfigError(f"{place}: no pictures")
    return files, [str(name) for name in named]


def _pictures_below(place: Path) -> list[Path]:
    if not place.is_dir():
        return [place] if place.is_file() else []
    found = [Path(at) / name for at, _, names in sorted(os.walk(place)) for name in sorted(names)]
    return [file for file in found if file.name.lower().endswith(PICTURES) and file.name[0] != "."]


def vector_rows(place: Path, features: tuple[str, ...], id_: str | None = None) -> tuple[Vectors, list[str]]:
    """(n, D) of an ``.npz``, of a table's columns ``features`` or its only lists; the samples' names.

    A sample's name is what the column ``id_`` or one usual for ids says, or else its row's number from 0 on.

    Raises:
        ConfigError: no such file or column, or a column of something else than numbers.
        IntegrityError: it is damaged, or numbers are missing or infinite; each row is named.
    """
    if not place.is_file():
        raise ConfigError(f"{place}: no such file")
    first, unit, bad = 0, "row", Bad()
    columns: dict[str, Any] | pd.DataFrame
    if place.suffix == ".npz":
        vectors, columns = npz_vectors(place)
    elif not features:
        columns = frame = read_frame(place)
        lists = [str(name) for name in frame if holds_lists(frame[name])]
        if len(lists) != 1:
            hint = "give an .npz with X, or a table with one column of lists"
            raise ConfigError(f"{place}: the classifier takes vectors without names", hint)
        vectors = stacked(frame[lists[0]], place, lists[0])
    else:
        text = text_columns(features)
        columns = frame = read_frame(place, text=list(text))
        vectors, (first, unit) = named_vectors(frame, features, place), counted(place)
        bad = _unheard(frame, text)
    bad |= not_finite(vectors, features)
    refuse(bad, len(vectors), place, first, unit, "mend them, or take them out")
    rows = range(len(vectors))
    others = [str(name) for name in columns if name == id_ or name not in features]
    column = _column("id", id_, others, place)
    ids = rows if column is None else columns[column]
    if len(ids) != len(rows):
        raise ConfigError(f"{place}: {len(ids)} ids of {len(rows)} samples")
    return vectors.astype(np.float32), [str(name) for name in ids]


def _unheard(frame: pd.DataFrame, text: dict[str, set[str]]) -> Bad:
    """The rows with a word that the classifier was not trained on; where none was known, none is needed."""
    bad = Bad()
    for column in frame.columns.intersection(list(text)):
        said = words(frame[column])
        for row in np.flatnonzero(~np.isin(said, [*text[column], ""])).tolist():
            bad.setdefault(row, f"{column} is {said[row]!r}; known are {', '.join(sorted(text[column]))}")
    return bad


def _column(role: str, asked: str | None, columns: list[str], place: Path) -> str | None:
    """The column that was asked for, or the one that is usual for a role; None: there is none."""
    if asked is not None and asked not in columns:
        raise ConfigError(f"{place}: no column {asked!r}; there are {listed(columns)}")
    return asked or usual(role, columns)
