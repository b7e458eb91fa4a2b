"""Samples without labels, for predictions."""

import os
from pathlib import Path
from typing import Any

import pandas as pd

from cmw_pipeline.data.own.arrays import npz_vectors
from cmw_pipeline.data.own.folders import PICTURES
from cmw_pipeline.data.own.found import USUAL
from cmw_pipeline.data.own.look import not_finite, refuse
from cmw_pipeline.data.own.tables import SUFFIXES, counted, named_vectors, read_frame
from cmw_pipeline.errors import ConfigError
from cmw_pipeline.types import Vectors


def picture_files(place: Path) -> list[Path]:
    """A picture, the pictures anywhere in a folder, or those that a table's ``path`` column names.

    Raises:
        ConfigError: there is none.
    """
    if place.is_dir():
        found = [Path(at) / name for at, _, names in sorted(os.walk(place)) for name in sorted(names)]
        files = [file for file in found if file.name.lower().endswith(PICTURES)]
    elif place.suffix in SUFFIXES:
        frame = read_frame(place)
        column = next((name for name in USUAL["path"] if name in frame), None)
        if column is None:
            raise ConfigError(f"{place}: no column of pictures", "call it path")
        files = [place.parent / str(path) for path in frame[column]]
    else:
        files = [place] if place.is_file() else []
    if not files:
        raise ConfigError(f"{place}: no pictures")
    return files


def vector_rows(place: Path, features: tuple[str, ...]) -> tuple[Vectors, list[str]]:
    """(n, D) of an ``.npz``, or of the columns of a table that are called ``features``; the samples' names.

    A sample's name is its ``id``, where there are such, or else its row's number from 0 on.

    Raises:
        ConfigError: no such file or column, or a column of something else than numbers.
        IntegrityError: it is damaged, or numbers are missing or infinite; each row is named.
    """
    if not place.is_file():
        raise ConfigError(f"{place}: no such file")
    first, unit = 0, "row"
    columns: dict[str, Any] | pd.DataFrame
    if place.suffix == ".npz":
        vectors, columns = npz_vectors(place)
    elif not features:
        raise ConfigError(f"{place}: the classifier takes vectors without names", "give an .npz with X")
    else:
        columns = frame = read_frame(place)
        vectors, (first, unit) = named_vectors(frame, features, place), counted(place)
    refuse(not_finite(vectors, features), len(vectors), place, first, unit, "mend them, or take them out")
    rows = range(len(vectors))
    ids = next((columns[name] for name in USUAL["id"] if name in columns and name not in features), rows)
    if len(ids) != len(rows):
        raise ConfigError(f"{place}: {len(ids)} ids of {len(rows)} samples")
    return vectors, [str(name) for name in ids]
