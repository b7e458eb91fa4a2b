"""Which sample a row of somebody's file is about: one rule for every reader of labels and lists."""

import csv
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from cmw_pipeline.errors import IntegrityError

NAMES_OF_SAMPLES = ("index", "idx", "row", "id", "", "unnamed: 0", "path", "file", "filename", "image")
"""Columns, in small letters, that say which sample a row is about; pandas names its own "" or so."""
_LONGEST_NUMBER = 18
"""Digits that fit into 64 bits."""


def read_texts(file: Path) -> dict[str, list[str]]:
    """The columns of a CSV file as text, in the order of its rows.

    Empty lines at the end do not count.

    Raises:
        IntegrityError: no CSV in UTF-8, a row of another length than the header, or a column named twice.
    """
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            rows = [row or [""] for row in csv.reader(stream, strict=True)]
    except (OSError, ValueError, csv.Error) as error:
        raise IntegrityError(f"{file}: not a CSV file: {error}") from None
    while rows and rows[-1] == [""]:
        rows.pop()
    if not rows:
        raise IntegrityError(f"{file}: not a CSV file: it is empty")
    header, *rows = rows
    refuse_doubled((name.strip().lower() for name in header), f"{file}: column")
    for number, row in enumerate(rows):
        if len(row) != len(header):
            raise IntegrityError(f"{file}: row {number}: {len(row)} fields; expected {len(header)}")
    return {name: [row[place] for row in rows] for place, name in enumerate(header)}


def refuse_doubled(names: Iterable[str], what: str) -> None:
    """See that each name is there once.

    Raises:
        IntegrityError: one is there twice.
    """
    name, times = next(iter(Counter(names).most_common(1)), ("", 0))
    if times > 1:
        raise IntegrityError(f"{what} {name!r} is there {times} times; expected once")


def sample_order(columns: dict[str, list[str]], file: Path) -> npt.NDArray[np.int64] | None:
    """(N,) the row of each sample, in the dataset's order; None where no column names the samples.

    Raises:
        IntegrityError: a column that names the samples does not number them 0 to N - 1, each once, or two
            of them disagree.
    """
    named = [name for name in columns if name.strip().lower() in NAMES_OF_SAMPLES]
    orders = [_order(columns[name], f"{file}: column {name!r}") for name in named]
    for name, order in zip(named, orders, strict=True):
        if not np.array_equal(order, orders[0]):
            raise IntegrityError(f"{file}: columns {named[0]!r} and {name!r} number the samples differently")
    return orders[0] if orders else None


def _order(texts: Sequence[str], where: str) -> npt.NDArray[np.int64]:
    hint = "leave the column out if the rows are in the order of the dataset's training samples"
    numbers = [whole_number(text.strip()) for text in texts]
    row = next((row for row, number in enumerate(numbers) if not isinstance(number, int)), None)
    if row is not None:
        raise IntegrityError(f"{where}: row {row}: {texts[row]!r} is no row number of the dataset", hint)
    found = np.array(numbers, dtype=np.int64)
    order = np.argsort(found, kind="stable")
    wrong = np.flatnonzero(found[order] != np.arange(len(found)))
    if wrong.size:
        row = int(order[wrong[0]])
        again = row and found[row] in found[:row]
        problem = "is there twice" if again else f"comes where {wrong[0]} should be"
        raise IntegrityError(
            f"{where}: row {row}: {found[row]} {problem}; expected 0 to {len(found) - 1}", hint
        )
    return order


def whole_number(text: str) -> int | str:
    """The number where the text is one, in digits alone; other text as it stands, for the message."""
    plain = text.isascii() and text.isdigit() and len(text) <= _LONGEST_NUMBER
    return int(text) if plain else text


def shifted_hint(numbers: npt.NDArray[np.integer], num_classes: int) -> str | None:
    """What to do about class numbers from 1 to K in place of 0 to K - 1; None where they are not that."""
    if len(numbers) and numbers.min() == 1 and numbers.max() == num_classes:
        return f"class numbers begin at 0 here; the file's run from 1 to {num_classes}: subtract 1"
    return None
