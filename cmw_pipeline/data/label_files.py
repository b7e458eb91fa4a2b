"""Label files: one label for each training sample, in the order of the dataset's training samples."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cmw_pipeline.config.contracts import LabelFile
from cmw_pipeline.data.cifar import check_range
from cmw_pipeline.data.identity import read_texts, sample_order, shifted_hint, whole_number
from cmw_pipeline.errors import ConfigError, IntegrityError
from cmw_pipeline.io.atomic import system_faults
from cmw_pipeline.io.tables import Columns, read_columns, write_columns
from cmw_pipeline.types import Labels

_MAX_BYTES = 100_000_000
_FEWER_CLASSES = 1 << 15
_CLEAN = "clean_label"
Ints = npt.NDArray[np.int64]


def label_digest(labels: Labels) -> str:
    """sha256 of the labels as little-endian int16, whatever file they came in.

    >>> label_digest(np.array([1, 2], dtype=np.int16))[:12]
    '7b11c1133330'
    """
    return hashlib.sha256(labels.astype("<i2").tobytes()).hexdigest()


def read_label_file(file: Path, num_classes: int, entry: str | None = None) -> tuple[Labels, Labels | None]:
    """Read labels from ``.npy`` (integers), ``.json`` (a list), ``.csv`` (a column ``label``) or ``.pt``.

    Args:
        file: its suffix says which. A ``.csv`` may have a column ``clean_label``, and one, such as
            ``index``, that numbers the samples: then it may have them in any order. A ``.pt`` is a dictionary
            of NumPy arrays as CIFAR-N publishes it, and is read without running anything that it names.
        num_classes: labels lie below it.
        entry: which labels of a ``.pt``.

    Returns:
        (N,) labels, and the dataset's own labels where the file holds them too.

    Raises:
        ConfigError: no such file, or of another format.
        IntegrityError: not one list of integers in range, or not one row for each sample; the message names
            the row.
        SystemFault: it cannot be read.
    """
    readers: dict[str, Callable[[Path], tuple[Any, Any]]] = {
        ".npy": _npy,
        ".json": _json,
        ".csv": _csv,
        ".pt": lambda file: _pt(file, entry),
    }
    reader = readers.get(file.suffix)
    if not file.exists():
        raise ConfigError(f"{file}: no such file")
    if reader is None or not file.is_file():
        raise ConfigError(f"{file}: expected a label file ending in {', '.join(readers)}")
    with system_faults(file):
        size = file.stat().st_size
        if size > _MAX_BYTES:
            raise IntegrityError(f"{file}: {size} bytes; a label file has at most {_MAX_BYTES}")
    labels, clean = reader(file)
    return (
        _checked(labels, num_classes, file, "label"),
        None if clean is None else _checked(clean, num_classes, file, _CLEAN),
    )


def write_given(out: Path, labels: Labels, clean: Labels | None) -> None:
    """Write labels, (N,), and the clean ones where they are known, as the table of a label-file artefact."""
    columns: Columns = {
        "index": np.arange(len(labels)),
        "label": labels,
        "clean_label": np.full(len(labels), -1) if clean is None else clean,
    }
    write_columns(out, LabelFile.LABELS, columns)


def read_given(
    path: Path, clean: Labels, num_classes: int, *, level: float | None, as_they_are: bool = False
) -> Labels:
    """Read the table of a label-file artefact, and see that it fits the training set.

    Args:
        path: the artefact.
        clean: (N,) the dataset's labels of its training samples.
        num_classes: labels lie below it.
        level: the published share of wrong labels; None for a user's own file, which must hold one label
            for every training sample.
        as_they_are: somebody has said to take them, though they agree no more often than by chance.

    Returns:
        (M,) labels of the first M <= N training samples.

    Raises:
        IntegrityError: other samples' labels, by their number, by the clean labels that came with them, or
            by how often they agree with the dataset's.
    """
    file, columns = path / LabelFile.LABELS, read_columns(path, LabelFile.LABELS)
    labels, known = columns["label"], columns["clean_label"]
    check_range(labels, num_classes, str(file), "label")
    if not np.array_equal(columns["index"], np.arange(len(labels))):
        raise IntegrityError(f"{file}: index does not run from 0 to {len(labels) - 1}")
    if len(labels) > len(clean) or (level is None and len(labels) < len(clean)):
        raise IntegrityError(
            f"{file}: {len(labels)} labels; expected {len(clean)}, one for each training sample in file order"
        )
    other = np.flatnonzero((known >= 0) & (known != clean[: len(labels)]))
    if len(other):
        row = int(other[0])
        raise IntegrityError(
            f"{file}: row {row}: its clean label is {known[row]}, the dataset's is {clean[row]}",
            _OTHERS,
        )
    if not as_they_are:
        _check_level(file, labels, clean[: len(labels)], num_classes, level)
    return labels


_LEVEL_TOLERANCE = 0.001
_STANDARD_ERRORS = 5
_OTHERS = "the labels are of another split, or in another order"
_SHIFTED = "class numbers begin at 0 here; the file's are one too large: subtract 1"


def _check_level(file: Path, labels: Labels, clean: Labels, num_classes: int, level: float | None) -> None:
    """Refuse another level than the published one, and labels that agree no more often than by chance."""
    found = float((labels != clean).mean()) if len(labels) else 0.0
    if level is not None and abs(found - level) > _LEVEL_TOLERANCE:
        raise IntegrityError(
            f"{file}: {found:.4f} of the labels differ from the dataset's; the published share is {level}",
            _OTHERS,
        )
    by_chance = _by_chance(len(labels), num_classes)
    if level is None and found and 1 - found <= by_chance:
        row = int(np.flatnonzero(labels != clean)[0])
        shifted = float((labels - 1 == clean).mean()) > by_chance
        raise IntegrityError(
            f"{file}: {1 - found:.4f} of the labels agree with the dataset's, no more than by chance; the "
            f"first that differs is row {row}: {labels[row]} in place of {clean[row]}",
            _SHIFTED
            if shifted
            else f"{_OTHERS}; if they are meant to be random, remove {file.parent} and use "
            "`cmw inject --labels FILE --accept-unverified`",
        )


def _by_chance(count: int, num_classes: int) -> float:
    """The largest share of ``count`` labels that agree where nothing but chance is at work."""
    chance = 1 / num_classes
    return float(chance + _STANDARD_ERRORS * np.sqrt(chance * (1 - chance) / max(count, 1)))


def _checked(values: Any, num_classes: int, file: Path, what: str) -> Labels:
    """An array or list as (N,) labels in range."""
    if isinstance(values, list):
        for row, value in enumerate(values):
            if type(value) is not int or not 0 <= value < _FEWER_CLASSES:
                raise IntegrityError(f"{file}: row {row}: {what} {value!r}; expected 0 to {num_classes - 1}")
        values = np.array(values, np.int64)
    if values.ndim != 1 or values.dtype.kind not in "iu":
        found = f"{values.dtype} of shape {values.shape}"
        raise IntegrityError(f"{file}: {what}: {found}; expected integers of shape (N,)")
    if hint := shifted_hint(values, num_classes):
        row = int(np.argmax(values))
        raise IntegrityError(
            f"{file}: row {row}: {what} {num_classes}; expected 0 to {num_classes - 1}", hint
        )
    check_range(values, num_classes, str(file), what)
    return np.asarray(values, np.int16)


def _npy(file: Path) -> tuple[Any, None]:
    try:
        # Mapped, so that a header that promises more than the file holds is refused before memory is taken.
        values = np.load(file, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # a damaged header can raise anything
        objects = "Python objects" in str(error) or "pickle" in str(error)
        reason = "no .npy file, or one of Python objects" if objects else error
        raise IntegrityError(f"{file}: not an array of numbers: {reason}") from None
    if not isinstance(values, np.ndarray):
        raise IntegrityError(f"{file}: {type(values).__name__}; expected one array")
    return values, None


def _json(file: Path) -> tuple[list[Any], None]:
    try:
        values = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise IntegrityError(f"{file}: not JSON: {error}") from None
    if not isinstance(values, list):
        raise IntegrityError(f"{file}: holds a {type(values).__name__}; expected a list of labels")
    return values, None


def _csv(file: Path) -> tuple[list[Any], list[Any] | None]:
    columns = read_texts(file)
    if "label" not in columns:
        raise IntegrityError(f"{file}: columns {list(columns)[:10]}; expected one named label")
    order = sample_order(columns, file)
    rows = range(len(columns["label"])) if order is None else order.tolist()
    labels, clean = (
        [whole_number(columns[name][row]) for row in rows] if name in columns else None
        for name in ("label", _CLEAN)
    )
    return labels or [], clean


def _pt(file: Path, entry: str | None) -> tuple[Any, Any]:
    import torch

    from cmw_pipeline.io.checkpoints import why_unread

    # What a pickled array of int64 names; nothing else is admitted.
    rebuild = np.empty(0).__reduce__()[0]
    parts = (np.ndarray, np.dtype, type(np.dtype("<i8")))
    admitted: list[Any] = [(rebuild, "numpy.core.multiarray._reconstruct"), *parts]
    try:
        with torch.serialization.safe_globals(admitted):
            content = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged or hostile file can raise anything
        raise IntegrityError(f"{file}: not a file of arrays: {why_unread(error)}") from None
    arrays = content if isinstance(content, dict) else {}
    if not isinstance(arrays.get(entry), np.ndarray):
        raise IntegrityError(f"{file}: no array {entry!r}; it has {sorted(map(str, arrays))}")
    return arrays[entry], arrays.get(_CLEAN)
