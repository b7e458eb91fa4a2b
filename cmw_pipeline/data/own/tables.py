"""CSV, TSV, JSON Lines and Parquet files of labels, with paths of pictures or features."""

import csv
import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from cmw_pipeline.config.plain_files import plain
from cmw_pipeline.data.own.found import Columns, Found, holds_lists, listed, stacked
from cmw_pipeline.data.own.look import words
from cmw_pipeline.errors import ConfigError, IntegrityError
from cmw_pipeline.types import Floats

log = logging.getLogger(__name__)
SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet")
MAX_VALUES = 50
"""Of a column of text that becomes features, one for each value."""
MISSING = ["", "NA", "N/A", "NaN", "nan", "null", "None"]
"""What is no number in a column of features; a label may be called so."""
_COMMA = re.compile(r"\s*[-+]?[\d.]*\d,\d+\s*")
"""A number with a decimal comma."""
_NAMELESS = "Unnamed: 0"
"""What pandas calls a first column without a name."""


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
    for role, name in roles.items():
        if not frame[name].map(pd.api.types.is_hashable).all():
            raise ConfigError(f"{file}: column {name!r} ({role}) holds lists; expected one value a row")
    first, unit = counted(file)
    if "path" in roles and columns.features is None:
        rows["path"] = rows["path"].map(lambda path: below(file.parent, path))
        return Found(file, rows, root=file.parent, first=first, unit=unit)
    features = frame.drop(columns=list(roles.values()))
    if columns.features is None:
        _refuse_disguised(features, frame[roles["label"]], file)
    vectors, names = _vectors(features, columns.features, file)
    if names:
        log.info("%s: %d features: %s", file, len(names), listed(list(names)))
    rows = rows.drop(columns="path", errors="ignore")
    return Found(file, rows, vectors=vectors, features=names, first=first, unit=unit)


def below(folder: Path, path: Any) -> Any:
    """A path as it is from the folder; of an absolute one the part behind the folder, if it leads there."""
    if not isinstance(path, str):
        return path
    if "\\" in path and not (folder / path).exists():
        path = path.replace("\\", "/")
    whole = folder.resolve()
    return str(Path(path).relative_to(whole)) if Path(path).is_relative_to(whole) else path


def counted(file: Path) -> tuple[int, str]:
    """The number of the first row of a table as a user counts, and what is counted."""
    return (2 if file.suffix in (".csv", ".tsv") else 1), ("row" if file.suffix == ".parquet" else "line")


def _refuse_disguised(features: pd.DataFrame, label: "pd.Series[Any]", file: Path) -> None:
    """A column with one value for each label, and another for every other, is the label in another form."""
    classes = label.nunique()
    if len(label) < 10 * classes:
        return
    for name, column in features.items():
        if not column.map(pd.api.types.is_hashable).all() or column.nunique() != classes:
            continue
        if len(pd.DataFrame({"label": label, "column": column}).drop_duplicates()) == classes:
            hint = "leave the column out; where it holds the right labels, --clean-label names it"
            raise ConfigError(f"{file}: column {name!r} is the label under other names", hint)


def read_frame(file: Path, columns: Columns | None = None, text: Sequence[str] = ()) -> pd.DataFrame:
    """All of a table; without ``columns``, nothing about labels is expected. ``text`` are columns of words.

    Raises:
        IntegrityError: not a file of its kind.
    """
    try:
        plain(file)
        if file.suffix == ".parquet":
            table = pq.read_table(file)
            decimals = {field.name for field in table.schema if pa.types.is_decimal(field.type)}
            frame: pd.DataFrame = table.to_pandas()
            return frame.astype(dict.fromkeys(decimals, float))
        if file.suffix in (".csv", ".tsv"):
            return _read_csv(file, columns, text)
        return pd.read_json(file, lines=True, dtype=False)
    except UnicodeDecodeError:
        hint = f"save it as UTF-8, or rewrite it: iconv -f WINDOWS-1252 -t UTF-8 {file} > NEW{file.suffix}"
        raise IntegrityError(f"{file}: not text in UTF-8", hint) from None
    except (
        pa.ArrowException,
        csv.Error,
        OSError,
        ValueError,
        OverflowError,
        TypeError,
        AttributeError,
    ) as error:
        reason = str(error).strip().partition("\n")[0]
        raise IntegrityError(f"{file}: not a {file.suffix[1:]} file: {reason}") from None


def csv_ways(file: Path) -> dict[str, Any]:
    """How pandas is to read a CSV or TSV file: encoding, separator and decimal mark, as spreadsheets differ.

    UTF-16 is told by its first two bytes; the separator is the one that divides the header most. Where
    that is no comma, the decimal mark is the one by which more columns are numbers.

    Raises:
        OSError: it cannot be read.
        UnicodeDecodeError: its header is text of another encoding.
    """
    with file.open("rb") as opened:
        wide = opened.read(2) in (b"\xff\xfe", b"\xfe\xff")
    ways: dict[str, Any] = {"encoding": "utf-16" if wide else "utf-8-sig", "sep": "\t"}
    if file.suffix != ".tsv":
        with file.open(encoding=ways["encoding"]) as text:
            header = text.readline()
        ways["sep"] = max(",;\t", key=lambda mark: len(next(csv.reader([header], delimiter=mark), [])))
    if ways["sep"] != ",":
        numbers = {
            mark: pd.read_csv(file, decimal=mark, nrows=1000, **ways).select_dtypes("number").shape[1]
            for mark in ".,"
        }
        ways["decimal"] = max(numbers, key=numbers.__getitem__)
    return ways


def _read_csv(file: Path, columns: Columns | None, text: Sequence[str]) -> pd.DataFrame:
    ways = csv_ways(file)
    names = [str(name) for name in pd.read_csv(file, nrows=0, **ways).columns]
    roles = [] if columns is None else list(columns.among(names, file).values())
    numbers = {name: MISSING for name in names if name not in roles}
    ways |= {"dtype": dict.fromkeys([*roles, *text], str), "keep_default_na": False, "na_values": numbers}
    frame: pd.DataFrame = pd.read_csv(file, low_memory=False, **ways)
    return frame.drop(columns=_row_numbers(frame))


def _row_numbers(frame: pd.DataFrame) -> list[str]:
    """The first column where it has no name and counts the rows, as pandas and R write them."""
    first = frame.columns[:1].tolist()
    if first != [_NAMELESS] or not pd.api.types.is_integer_dtype(frame[_NAMELESS]):
        return []
    counts = frame[_NAMELESS] - np.arange(len(frame))
    return first if counts.nunique() == 1 and counts.iloc[0] in (0, 1) else []


def _vectors(frame: pd.DataFrame, asked: str | None, file: Path) -> tuple[Any, tuple[str, ...]]:
    """(N, D) features, and their names."""
    if asked in frame.columns and holds_lists(frame[asked]):
        return stacked(frame[asked], file, str(asked)), ()
    names = [name for name in frame.columns if asked is None or str(name).startswith(asked)]
    lists = [name for name in names if holds_lists(frame[name])]
    if asked is None and len(lists) == 1:
        return stacked(frame[lists[0]], file, str(lists[0])), ()
    if not names:
        what = "no column of paths or features" if asked is None else f"no column begins with {asked!r}"
        raise ConfigError(f"{file}: {what}", "name them: --path COLUMN, or --features PREFIX")
    told = [feature for name in names for feature in _told(frame[name], str(name), file)]
    return named_vectors(frame, told, file), tuple(told)


def named_vectors(frame: pd.DataFrame, features: Sequence[str], place: Path) -> Floats:
    """(n, D) float64 of features as :func:`read_table_file` names them: columns, or ``COLUMN=VALUE``, 0 or 1.

    Raises:
        ConfigError: a column is missing, or holds what is no number.
    """
    parts = []
    for feature in features:
        column, _, value = feature.partition("=")
        if feature not in frame and column not in frame:
            raise ConfigError(f"{place}: no column {feature!r}, which the classifier was trained on")
        if feature in frame:
            part = _flags_as_numbers(frame[feature])
            odd = _no_numbers(part)
            if len(odd):
                raise ConfigError(f"{place}: column {feature!r} holds {_shown(odd)}, which is no number")
        else:
            part = pd.Series(words(frame[column]) == value)
        parts.append(pd.to_numeric(part).to_numpy(dtype=np.float64, na_value=np.nan))
    return np.stack(parts, axis=1)


def text_columns(features: Sequence[str]) -> dict[str, set[str]]:
    """The columns of words that features ``COLUMN=VALUE`` are made of, each with its values."""
    columns: dict[str, set[str]] = {}
    for feature in features:
        column, mark, value = feature.partition("=")
        if mark:
            columns.setdefault(column, set()).add(value)
    return columns


def _told(column: "pd.Series[Any]", name: str, file: Path) -> list[str]:
    """The features of a column: itself where it holds numbers; of text, one for each of its values."""
    odd, known = _no_numbers(column), column.dropna()
    if not len(odd):
        return [name]
    values = sorted(set(words(known)))
    what = f"holds {_shown(odd)}, which is no number"
    hint = "leave it out, or name the columns of features: --features PREFIX"
    if odd.astype(str).str.fullmatch(_COMMA).all():
        raise ConfigError(
            f"{file}: column {name!r} {what}",
            "write numbers with a decimal point, and nothing between thousands",
        )
    if len(odd) > len(known) / 2 and len(values) <= MAX_VALUES:
        return [f"{name}={value}" for value in values]
    if len(odd) > len(known) / 2:
        what = f"is text of {len(values)} values; at most {MAX_VALUES} become features"
        if column.is_unique:
            hint = f"if it says what the rows are called: --id {name}; else leave it out"
    raise ConfigError(f"{file}: column {name!r} {what}", hint)


def _flags_as_numbers(column: "pd.Series[Any]") -> "pd.Series[Any]":
    """True and False beside gaps as 1, 0 and gaps, as they are read where there is no gap."""
    flags = column.dtype == object and all(isinstance(value, bool) for value in column.dropna())
    return column.astype("boolean").astype("Float64") if flags else column


def _no_numbers(column: "pd.Series[Any]") -> "pd.Series[Any]":
    """The values that are no numbers, of those that are there."""
    if pd.api.types.is_numeric_dtype(column):
        return column[:0]
    known = column.dropna()
    return known[pd.to_numeric(known.astype(str), errors="coerce").isna()]


def _shown(odd: "pd.Series[Any]") -> str:
    return repr(str(odd.iloc[0])[:40])
