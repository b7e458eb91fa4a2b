"""Every sample of a user's dataset looked at once: whether it can be used, and what tells equal ones."""

import hashlib
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from cmw_pipeline.data.listings import fault_of
from cmw_pipeline.data.own.found import Found
from cmw_pipeline.data.pictures import Unreadable, decode, read_bytes
from cmw_pipeline.data.workers import in_workers
from cmw_pipeline.errors import IntegrityError

_CHUNK = 64
_SHOWN = 20
Bad = dict[int, str]
"""Row -> what is wrong with it."""


def words(values: "pd.Series[Any]") -> npt.NDArray[np.object_]:
    """(N,) labels and the like as text; whole numbers without a point; "" for what is missing."""
    if (
        pd.api.types.is_float_dtype(values)
        and (values.dropna() % 1 == 0).all()
        and values.abs().max() < 2**53
    ):
        values = values.astype("Int64")
    known = values.notna().to_numpy()
    text = [_text(value) if k else "" for value, k in zip(values, known, strict=True)]
    return np.array(text, dtype=object)


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def look_at(found: Found, workers: int, bad: Bad) -> pd.DataFrame:
    """Name and content of every sample, and of files their size and checksum."""
    if found.vectors is not None:
        return _vectors_seen(found, bad)
    if found.images is not None:
        content = [digest(image.tobytes()) for image in found.images]
        return pd.DataFrame({"content": content, "name": ""})
    root, paths = found.root, words(found.rows["path"])
    assert root is not None

    def look(start: int) -> list[tuple[int, int, str, str]]:
        return [_look(root, path) for path in paths[start : start + _CHUNK]]

    looked = [row for rows in in_workers(look, range(0, len(paths), _CHUNK), workers) for row in rows]
    seen = pd.DataFrame(looked, columns=["bytes", "crc32", "content", "fault"])
    for row in np.flatnonzero(seen["fault"] != "").tolist():
        bad.setdefault(row, f"{paths[row]}: {seen['fault'][row]}")
    for row in np.flatnonzero(pd.Series(paths).duplicated() & (paths != "")).tolist():
        bad.setdefault(row, f"{paths[row]}: listed twice")
    return seen.drop(columns="fault").assign(path=paths, name=paths)


def _look(root: Path, path: str) -> tuple[int, int, str, str]:
    if fault := "no path" if not path else fault_of(path):
        return 0, 0, "", fault
    try:
        data = read_bytes(root / path)
        decode(data)
    except Unreadable as error:
        return 0, 0, "", str(error)
    return len(data), zlib.crc32(data), digest(data), ""


def digest(data: bytes) -> str:
    """What tells equal contents: half of a sha256."""
    return hashlib.sha256(data).hexdigest()[:32]


def _vectors_seen(found: Found, bad: Bad) -> pd.DataFrame:
    assert found.vectors is not None
    for row, fault in not_finite(found.vectors, found.features).items():
        bad.setdefault(row, fault)
    content = [digest(vector.tobytes()) for vector in np.ascontiguousarray(found.vectors)]
    names = words(found.rows["id"]) if "id" in found.rows else np.full(len(content), "", dtype=object)
    return pd.DataFrame({"content": content, "name": names})


def not_finite(vectors: npt.NDArray[Any], features: tuple[str, ...]) -> Bad:
    """The rows of (N, D) vectors that hold no number, or one too large for float32, by the first."""
    with np.errstate(over="ignore"):
        wrong = ~np.isfinite(vectors.astype(np.float32))
    bad = Bad()
    for row in np.flatnonzero(wrong.any(axis=1)).tolist():
        column = int(wrong[row].argmax())
        name = features[column] if features else f"feature {column}"
        bad[row] = f"{name} is {vectors[row, column]}"
    return bad


def refuse(bad: Bad, count: int, place: Path, first: int, unit: str, hint: str) -> None:
    """Name the rows that cannot be used, if there are any, as the user counts them.

    Raises:
        IntegrityError: there are.
    """
    if not bad:
        return
    shown = [f"  {unit} {row + first}: {what}" for row, what in sorted(bad.items())[:_SHOWN]]
    if len(bad) > _SHOWN:
        shown.append(f"  and {len(bad) - _SHOWN} more")
    listed = "\n".join(shown)
    raise IntegrityError(f"{place}: {len(bad)} of {count} rows cannot be used:\n{listed}", hint)
