"""Vectors in NumPy's ``.npz``, and datasets that Hugging Face's ``save_to_disk`` wrote."""

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from cmw_pipeline.config.plain_files import plain
from cmw_pipeline.data.own.found import ROLES, Columns, Found, holds_lists, stacked
from cmw_pipeline.errors import ConfigError, IntegrityError

VECTORS = ("X", "x", "embeddings", "features", "vectors")
"""Names of an array of vectors."""


def read_npz(file: Path, columns: Columns) -> Found:
    """Read ``X`` (or ``embeddings``), (N, D), and ``y`` (or ``labels``), (N,); other roles by their names.

    Raises:
        ConfigError: an array is missing, or is not one of a row a sample.
        IntegrityError: no ``.npz`` file, or one that holds Python objects.
    """
    arrays = _arrays(file)
    roles = columns.among(list(arrays), file)
    name, vectors = _vectors_among(arrays, columns.features, file, "name it: --features ARRAY")
    for role, array in roles.items():
        if arrays[array].shape != (len(vectors),):
            raise ConfigError(
                f"{file}: {array} ({role}) has shape {arrays[array].shape}; {name} has {len(vectors)} rows"
            )
    rows = pd.DataFrame({role: arrays[array] for role, array in roles.items() if role != "path"})
    return Found(file, rows, vectors=vectors, first=0)


def npz_vectors(file: Path) -> tuple[npt.NDArray[Any], dict[str, Any]]:
    """The (N, D) vectors of an ``.npz``, under one of the names of ``VECTORS``; all its arrays.

    Raises:
        ConfigError, IntegrityError: as :func:`read_npz`.
    """
    arrays = _arrays(file)
    return _vectors_among(arrays, None, file, "call it X")[1], arrays


def _arrays(file: Path) -> dict[str, Any]:
    try:
        with np.load(plain(file), allow_pickle=False) as held:
            return {name: held[name] for name in held.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        objects = "Object arrays" in str(error)
        hint = "save numbers as numbers and text as text: y.astype(str)" if objects else None
        raise IntegrityError(f"{file}: not an .npz file of plain arrays: {error}", hint) from None


def _vectors_among(
    arrays: dict[str, Any], asked: str | None, file: Path, hint: str
) -> tuple[str, npt.NDArray[Any]]:
    name = asked or next((name for name in VECTORS if name in arrays), None)
    if name is None or name not in arrays:
        raise ConfigError(f"{file}: no array of vectors, X or embeddings", hint)
    vectors = arrays[name]
    if vectors.ndim != 2 or not np.issubdtype(vectors.dtype, np.number):
        what = f"{vectors.dtype} of shape {vectors.shape}"
        raise ConfigError(f"{file}: {name} is {what}; expected (N, D) numbers")
    return name, vectors


def read_saved(folder: Path, columns: Columns) -> Found:
    """Read what ``save_to_disk`` wrote: one dataset, or one a split; vectors in a column of lists.

    Raises:
        ConfigError: a column is missing; or samples are pictures, which have to be files.
        IntegrityError: the folder is damaged.
    """
    parts = {"": folder}
    if (folder / "dataset_dict.json").is_file():
        names = _json(folder / "dataset_dict.json")["splits"]
        parts = {name: folder / name for name in names}
    frames = [_saved_part(part, place) for part, place in parts.items()]
    frame = pd.concat(frames, ignore_index=True)
    roles = columns.among([str(name) for name in frame.columns], folder)
    rest = [name for name in frame.columns if name not in roles.values()]
    lists = [name for name in rest if holds_lists(frame[name])]
    name = columns.features or (lists[0] if len(lists) == 1 else None)
    if name not in frame.columns:
        hint = "name it: --features COLUMN; pictures have to be files: use a folder or a table of paths"
        raise ConfigError(f"{folder}: no column of vectors; there are {', '.join(map(str, rest))}", hint)
    rows = pd.DataFrame({role: frame[column] for role, column in roles.items() if role in ROLES})
    rows = rows.drop(columns="path", errors="ignore")
    return Found(folder, rows, vectors=stacked(frame[name], folder, str(name)))


def _saved_part(part: str, folder: Path) -> pd.DataFrame:
    info, state = _json(folder / "dataset_info.json"), _json(folder / "state.json")
    try:
        tables = []
        for entry in state["_data_files"]:
            with pa.memory_map(str(folder / entry["filename"])) as source:
                tables.append(pa.ipc.open_stream(source).read_all())
        frame: pd.DataFrame = pa.concat_tables(tables).to_pandas()
    except (pa.ArrowException, OSError, KeyError, TypeError) as error:
        raise IntegrityError(f"{folder}: not what save_to_disk writes: {error}") from None
    for name, feature in (info.get("features") or {}).items():
        if isinstance(feature, dict) and feature.get("_type") == "ClassLabel" and name in frame:
            known = dict(enumerate(feature["names"]))
            frame[name] = frame[name].map(known)
    return frame.assign(split=part) if part and "split" not in frame else frame


def _json(file: Path) -> dict[str, Any]:
    try:
        read: dict[str, Any] = json.loads(plain(file).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise IntegrityError(f"{file}: {error}") from None
    return read
