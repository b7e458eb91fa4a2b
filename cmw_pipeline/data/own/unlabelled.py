"""Samples without labels, for predictions."""

import os
from pathlib import Path

import numpy as np

from cmw_pipeline.data.own.arrays import VECTORS
from cmw_pipeline.data.own.folders import PICTURES
from cmw_pipeline.data.own.tables import SUFFIXES, named_vectors, read_frame
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
        column = next((name for name in ("path", "file_name", "filename", "file") if name in frame), None)
        if column is None:
            raise ConfigError(f"{place}: no column path")
        files = [place.parent / str(path) for path in frame[column]]
    else:
        files = [place] if place.is_file() else []
    if not files:
        raise ConfigError(f"{place}: no pictures")
    return files


def vector_rows(place: Path, features: tuple[str, ...]) -> Vectors:
    """(n, D) of an ``.npz``, or of the columns of a table that are called ``features``.

    Raises:
        ConfigError: no such file or column.
        IntegrityError: it is damaged.
    """
    if not place.is_file():
        raise ConfigError(f"{place}: no such file")
    if place.suffix == ".npz":
        with np.load(place, allow_pickle=False) as held:
            name = next((name for name in VECTORS if name in held.files), None)
            if name is None:
                raise ConfigError(f"{place}: no array of vectors, X or embeddings")
            vectors: Vectors = held[name].astype(np.float32)
            return vectors
    frame = read_frame(place)
    if not features:
        raise ConfigError(f"{place}: the classifier takes vectors without names", "give an .npz with X")
    return named_vectors(frame, features, place)
