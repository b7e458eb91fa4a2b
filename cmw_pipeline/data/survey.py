"""Every listed image file opened once: what can be used, and a report on what cannot."""

import functools
import zlib
from pathlib import Path

import numpy as np
import pandas as pd

from cmw_pipeline.data.listings import Listing
from cmw_pipeline.data.pictures import Unreadable, decode, read_bytes
from cmw_pipeline.data.workers import in_workers
from cmw_pipeline.types import TEST

LEAK = "a copy of a test picture"
_COPY, _TWO_LABELS = "a copy", "a copy under another label"
_CHUNK = 64
Row = tuple[int, int, str, bool]
"""Bytes, crc32, what is wrong with the file or what it was converted from, whether it is left out."""


def survey(root: Path, listing: Listing, workers: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Read and decode every file of a listing.

    Args:
        root: the folder of the dataset.
        listing: its files.
        workers: processes that decode.

    Returns:
        The files that can be used, with the columns of ``Raw.LABELS`` and ``Raw.FILES``; and the report
        on the others and on those that were converted, with those of ``Raw.FAULTS``.
    """
    files = listing.files
    look = functools.partial(_looked_at, root, files["path"].array, files["fault"].array)
    starts = range(0, len(files), _CHUNK)
    found = [row for rows in in_workers(look, starts, workers) for row in rows]
    seen = pd.DataFrame(found, columns=["bytes", "crc32", "fault", "left_out"]).astype({"left_out": bool})
    whole = pd.concat([files.drop(columns="fault"), seen], axis=1)
    kept = whole[~whole["left_out"]].drop(columns=["fault", "left_out"]).reset_index(drop=True)
    kept.insert(0, "index", kept.index)
    return kept, whole.loc[whole["fault"] != "", ["path", "split", "fault", "left_out"]]


def copies(files: pd.DataFrame) -> pd.DataFrame:
    """The same picture again, by size and CRC-32: a copy, a link, or a link to its folder.

    Args:
        files: those that can be used, as :func:`survey` returns them.

    Returns:
        A report with the columns of ``Raw.FAULTS``: all but the first of the pictures that are equal, and
        all of those outside the test set that are in it too. None is left out.
    """
    content = [files["bytes"], files["crc32"]]
    in_test = files["split"] == TEST
    leaks = in_test.groupby(content).transform("any") & ~in_test
    again = files.assign(in_test=in_test).duplicated(["bytes", "crc32", "in_test"])
    labels = files.groupby(["bytes", "crc32"])["label"].transform("nunique")
    fault = np.select([leaks, again & (labels > 1), again], [LEAK, _TWO_LABELS, _COPY], "")
    report = files[["path", "split"]].assign(fault=fault, left_out=False)
    found: pd.DataFrame = report.loc[fault != ""]
    return found


def _looked_at(
    root: Path,
    paths: "pd.api.extensions.ExtensionArray",
    faults: "pd.api.extensions.ExtensionArray",
    start: int,
) -> list[Row]:
    return [_look(root / paths[row], faults[row]) for row in range(start, min(start + _CHUNK, len(paths)))]


def _look(file: Path, fault: str) -> Row:
    if fault:
        return 0, 0, fault, True
    try:
        data = read_bytes(file)
        _, converted = decode(data)
    except Unreadable as error:
        return 0, 0, str(error), True
    return len(data), zlib.crc32(data), f"converted from {converted}" if converted else "", False
