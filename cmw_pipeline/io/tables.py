"""Parquet tables with a fixed schema, deterministic bytes, and a check of every column on reading.

Stages read and write columns, as arrays; what puts many tables together works on data frames, whose library
takes a third of a second to load and is not loaded for anything else.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from cmw_pipeline.config.contracts import File
from cmw_pipeline.errors import IntegrityError
from cmw_pipeline.io.atomic import atomic_file

if TYPE_CHECKING:
    import pandas as pd

Columns: TypeAlias = dict[str, npt.NDArray[Any]]
"""Name -> (N,) values. Whole numbers and truth values of which some are missing are a masked array."""

_TYPES = {
    "int16": pa.int16(),
    "int32": pa.int32(),
    "int64": pa.int64(),
    "float32": pa.float32(),
    "float64": pa.float64(),
    "string": pa.string(),
    "bool": pa.bool_(),
}


def write_columns(folder: Path, file: File, values: Mapping[str, npt.ArrayLike]) -> None:
    """Write a table of an artefact atomically; the same values give the same bytes.

    Args:
        folder: of the artefact.
        file: says the name and the columns.
        values: (N,) of each column; NaN and what is masked are missing values.

    Raises:
        IntegrityError: not exactly these columns, or a value does not fit.
    """
    path, schema = folder / file, _schema(file.columns)
    _check_names(path, list(values), file.columns)
    try:
        arrays = [_array(np.ma.asanyarray(values[name]), kind) for name, kind in file.columns.items()]
        table = pa.Table.from_arrays(arrays, schema=schema)
    except (pa.ArrowException, ValueError) as error:
        raise IntegrityError(f"{path}: {error}") from None
    _write(path, table)


def read_columns(folder: Path, file: File, only: list[str] | None = None) -> Columns:
    """Read a table of an artefact and check its schema.

    Args:
        folder: of the artefact.
        file: says the name and the columns.
        only: the columns to load; the others are never read from the file.

    Raises:
        IntegrityError: not parquet, damaged, or of another schema.
    """
    table = read_arrow(folder / file, file.columns, only)
    return {name: _values(table[name]) for name in table.column_names}


def read_arrow(path: Path, columns: Mapping[str, str], only: list[str] | None = None) -> pa.Table:
    """Read a table as it lies in the file, and check its schema.

    Raises:
        IntegrityError: as of :func:`read_columns`.
    """
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:  # read_table would load pandas
            found, expected = file.schema_arrow, _schema(columns)
            if not found.equals(expected, check_metadata=False):
                raise IntegrityError(f"{path}: schema {found.names}; expected {expected.names}")
            return file.read(columns=only)
    except FileNotFoundError:
        raise IntegrityError(f"{path}: no such file") from None
    except (pa.ArrowException, OSError, ValueError) as error:  # a damaged footer can raise any of these
        raise IntegrityError(f"{path}: {error}") from None


def write_table(path: Path, frame: "pd.DataFrame", columns: Mapping[str, str]) -> None:
    """Write a data frame atomically; the same rows give the same bytes.

    Raises:
        IntegrityError: the frame does not have exactly these columns, or a value does not fit.
    """
    _check_names(path, list(frame.columns), columns)
    try:
        table = pa.Table.from_pandas(frame, schema=_schema(columns), preserve_index=False)
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise IntegrityError(f"{path}: {error}") from None
    _write(path, table.replace_schema_metadata(None))


def read_table(path: Path, columns: Mapping[str, str], only: list[str] | None = None) -> "pd.DataFrame":
    """Read a data frame; as :func:`read_columns`."""
    frame: pd.DataFrame = read_arrow(path, columns, only).to_pandas()
    return frame


def write_array(path: Path, values: npt.NDArray[Any]) -> None:
    """Write one array as ``.npy`` atomically."""
    atomic_file(path, lambda draft: np.save(draft, values, allow_pickle=False))


def _schema(columns: Mapping[str, str]) -> pa.Schema:
    return pa.schema([(name, _TYPES[kind]) for name, kind in columns.items()])


def _check_names(path: Path, found: list[str], columns: Mapping[str, str]) -> None:
    if found != list(columns):
        raise IntegrityError(f"{path}: columns {found}; expected {list(columns)}")


def _write(path: Path, table: pa.Table) -> None:
    atomic_file(path, lambda draft: pq.write_table(table, draft, write_page_checksum=True))


# pyarrow's own ways from and to NumPy look for pandas first, and load it.


def _array(values: npt.NDArray[Any], kind: str) -> pa.Array:
    """Values of the kind exactly as they are, missing ones left out.

    Raises:
        ValueError: a value is not one of the kind.
    """
    if kind == "string":
        texts = [str(value).encode() for value in values.tolist()]
        offsets = np.cumsum([0, *map(len, texts)], dtype=np.int32)
        return pa.StringArray.from_buffers(len(texts), pa.py_buffer(offsets), pa.py_buffer(b"".join(texts)))
    found = np.ma.getdata(values)
    missing = np.ma.getmaskarray(values) | (np.isnan(found) if found.dtype.kind == "f" else False)
    stored = np.where(missing, 0, found).astype(kind)
    if stored.dtype.kind != "f" and not np.array_equal(stored[~missing], found[~missing]):
        raise ValueError(f"a value is not one of {kind}")
    data = _bits(stored) if kind == "bool" else pa.py_buffer(np.ascontiguousarray(stored))
    valid = _bits(~missing) if missing.any() else None
    return pa.Array.from_buffers(_TYPES[kind], len(stored), [valid, data])


def _bits(values: npt.NDArray[np.bool_]) -> pa.Buffer:
    return pa.py_buffer(np.packbits(values, bitorder="little"))


def _values(column: pa.ChunkedArray) -> npt.NDArray[Any]:
    """The same way back."""
    array, kind = column.combine_chunks(), next(name for name, at in _TYPES.items() if at == column.type)
    if kind == "string":
        return np.array(array.to_pylist(), object)
    if kind != "bool" and not array.null_count:
        return np.from_dlpack(array).copy()
    found = array.to_pylist()
    missing = np.array([value is None for value in found], bool)
    values = np.array([value or 0 for value in found], kind)
    if values.dtype.kind == "f":
        return np.where(missing, np.nan, values).astype(kind)
    return np.ma.MaskedArray(values, mask=missing) if array.null_count else values
