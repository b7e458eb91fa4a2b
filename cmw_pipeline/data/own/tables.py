"""CSV, TSV, JSON Lines and Parquet files of labels, with paths of pictures or features."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from cmw_pipeline.config.plain_files import plain
from cmw_pipeline.data.own.found import Columns, Found, stacked
from cmw_pipeline.errors import ConfigError, IntegrityError
from cmw_pipeline.types import Vectors

SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet")
MAX_VALUES = 50
"""Of a column of text that becomes features, one for each value."""
_MISSING = ["", "NA", "N/A", "NaN", "nan", "null", "None"]
"""What is no number in a column of features; a label may be called so."""


def read_table_file(file: Path, columns: Columns) -> Found:
    """Read a table; paths in it are relative to its own folder.

    Raises:
        ConfigError: a column is missing, or what a sample is cannot be told.
        IntegrityError: not a file of its kind.
    """
    frame = read_frame(file, columns)
    if frame.empty:
        raise ConfigError(f"{file}: no rows")
    roles = columns.among([str(name) for name in frame.columns], file)
    rows = pd.DataFrame({role: frame[name] for role, name in roles.items()})
    first, unit = (2, "line") if file.suffix in (".csv", ".tsv") else (1, "line")
    unit = "row" if file.suffix == ".parquet" else unit
    if "path" in roles and columns.features is None:
        return Found(file, rows, root=file.parent, first=first, unit=unit)
    vectors, names = _vectors(frame.drop(columns=list(roles.values())), columns.features, file)
    rows = rows.drop(columns="path", errors="ignore")
    return Found(file, rows, vectors=vectors, features=names, first=first, unit=unit)


def read_frame(file: Path, columns: Columns | None = None) -> pd.DataFrame:
    """All of a table; without ``columns``, nothing about labels is expected.

    Raises:
        IntegrityError: not a file of its kind.
    """
    try:
        plain(file)
        if file.suffix == ".parquet":
            frame: pd.DataFrame = pq.read_table(file).to_pandas()
            return frame
        if file.suffix in (".csv", ".tsv"):
            return _read_csv(file, columns)
        return pd.read_json(file, lines=True, dtype=False)
    except (pa.ArrowException, OSError, ValueError, OverflowError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise IntegrityError(f"{file}: not a {file.suffix[1:]} file: {reason}") from None


def _read_csv(file: Path, columns: Columns | None) -> pd.DataFrame:
    ways: dict[str, Any] = {"sep": "\t" if file.suffix == ".tsv" else ",", "encoding": "utf-8-sig"}
    names = [str(name) for name in pd.read_csv(file, nrows=0, **ways).columns]
    text = [] if columns is None else list(columns.among(names, file).values())
    numbers = {name: _MISSING for name in names if name not in text}
    ways |= {"dtype": dict.fromkeys(text, str), "keep_default_na": False, "na_values": numbers}
    frame: pd.DataFrame = pd.read_csv(file, low_memory=False, **ways)
    return frame


def _vectors(frame: pd.DataFrame, asked: str | None, file: Path) -> tuple[Any, tuple[str, ...]]:
    """(N, D) features, and their names."""
    if asked in frame.columns and len(frame) and hasattr(frame[asked].iloc[0], "__len__"):
        return stacked(frame[asked], file, str(asked)), ()
    names = [name for name in frame.columns if asked is None or str(name).startswith(asked)]
    lists = [name for name in names if len(frame) and isinstance(frame[name].iloc[0], list | np.ndarray)]
    if asked is None and len(lists) == 1:
        return stacked(frame[lists[0]], file, str(lists[0])), ()
    if not names:
        what = "no column of paths or features" if asked is None else f"no column begins with {asked!r}"
        raise ConfigError(f"{file}: {what}", "name them: --path COLUMN, or --features PREFIX")
    told = [feature for name in names for feature in _told(frame[name], str(name), file)]
    return named_vectors(frame, told, file), tuple(told)


def named_vectors(frame: pd.DataFrame, features: Sequence[str], place: Path) -> Vectors:
    """(n, D) of features as :func:`read_table_file` names them: columns, or ``COLUMN=VALUE``, 0 or 1.

    Raises:
        ConfigError: a column is missing.
    """
    parts = []
    for feature in features:
        column, _, value = feature.partition("=")
        if feature not in frame and column not in frame:
            raise ConfigError(f"{place}: no column {feature!r}, which the classifier was trained on")
        parts.append(
            frame[feature] if feature in frame else (frame[column].astype(str) == value).astype(float)
        )
    columns = [part.to_numpy(dtype=np.float32, na_value=np.nan) for part in parts]
    return np.stack(columns, axis=1)


def _told(column: "pd.Series[Any]", name: str, file: Path) -> list[str]:
    """The features of a column: itself where it holds numbers; of text, one for each of its values."""
    if pd.api.types.is_numeric_dtype(column):
        return [name]
    known = column.dropna()
    odd = known[pd.to_numeric(known, errors="coerce").isna()]
    values = sorted(set(known.astype(str)))
    if len(odd) > len(known) / 2 and len(values) <= MAX_VALUES:
        return [f"{name}={value}" for value in values]
    what = f"holds {str((odd if len(odd) else column).iloc[0])[:40]!r}, which is no number"
    if len(odd) > len(known) / 2:
        what = f"is text of {len(values)} values; at most {MAX_VALUES} become features"
    hint = "leave it out, or name the columns of features: --features PREFIX"
    raise ConfigError(f"{file}: column {name!r} {what}", hint)
