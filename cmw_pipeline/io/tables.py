"""Parquet tables with a fixed schema, deterministic bytes, and a check of every column on reading."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from cmw_pipeline.errors import IntegrityError
from cmw_pipeline.io.atomic import atomic_file

_TYPES = {
    "int16": pa.int16(),
    "int32": pa.int32(),
    "int64": pa.int64(),
    "float32": pa.float32(),
    "float64": pa.float64(),
    "string": pa.string(),
    "bool": pa.bool_(),
}


def arrow_schema(columns: dict[str, str]) -> pa.Schema:
    """The Arrow schema of one of the column tables in :mod:`cmw_pipeline.types`."""
    return pa.schema([(name, _TYPES[kind]) for name, kind in columns.items()])


def write_table(path: Path, frame: pd.DataFrame, columns: dict[str, str]) -> None:
    """Write a table atomically; the same rows give the same bytes.

    Raises:
        IntegrityError: the frame does not have exactly these columns, or a value does not fit.
    """
    if list(frame.columns) != list(columns):
        raise IntegrityError(f"{path}: columns {list(frame.columns)}; expected {list(columns)}")
    try:
        table = pa.Table.from_pandas(frame, schema=arrow_schema(columns), preserve_index=False)
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise IntegrityError(f"{path}: {error}") from None
    table = table.replace_schema_metadata(None)
    atomic_file(path, lambda draft: pq.write_table(table, draft, write_page_checksum=True))


def read_table(path: Path, columns: dict[str, str], only: list[str] | None = None) -> pd.DataFrame:
    """Read a table and check its schema.

    Args:
        path: a parquet file.
        columns: the schema it must have.
        only: the columns to load; the others are never read from the file.

    Raises:
        IntegrityError: not parquet, damaged, or of another schema.
    """
    try:
        found = pq.read_schema(path)
        expected = arrow_schema(columns)
        if not found.equals(expected, check_metadata=False):
            raise IntegrityError(f"{path}: schema {found.names}; expected {expected.names}")
        table = pq.read_table(path, columns=only, page_checksum_verification=True)
    except FileNotFoundError:
        raise IntegrityError(f"{path}: no such file") from None
    except (pa.ArrowException, OSError, ValueError) as error:  # a damaged footer can raise any of these
        raise IntegrityError(f"{path}: {error}") from None
    frame: pd.DataFrame = table.to_pandas()
    return frame


def write_array(path: Path, values: npt.NDArray[Any]) -> None:
    """Write one array as ``.npy`` atomically."""
    atomic_file(path, lambda draft: np.save(draft, values, allow_pickle=False))
