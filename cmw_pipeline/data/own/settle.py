"""From what a user has to a dataset: classes, splits, every row checked, all bad ones named at once."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from cmw_pipeline.data.own.arrays import read_npz, read_saved
from cmw_pipeline.data.own.divide import divide, units
from cmw_pipeline.data.own.folders import SPLITS, read_folder
from cmw_pipeline.data.own.found import Columns, Found
from cmw_pipeline.data.own.look import Bad, look_at, refuse, words
from cmw_pipeline.data.own.tables import MISSING, SUFFIXES, read_table_file
from cmw_pipeline.errors import ConfigError
from cmw_pipeline.runtime.seeds import stream
from cmw_pipeline.types import TEST, TRAIN, Images, Vectors

UNKNOWN = -1
"""A clean label that is not known."""
_YES = dict.fromkeys(("1", "true", "yes", "y", "1.0"), True) | dict.fromkeys(
    ("0", "false", "no", "n", "", "0.0", "nan", "none"), False
)
_TEST_PARTS = 5
"""One of so many parts is the test set, where the user has made none."""


@dataclass(frozen=True)
class OwnData:
    """A dataset of the user's own, checked."""

    rows: pd.DataFrame
    """One a sample: ``label`` int16; ``split`` train or test; ``trusted`` bool; ``clean_label`` int16, -1:
    not known; ``group`` and ``content`` text; ``name`` text, a path, an id, or where the row stands as a user
    counts; ``unit`` int64: rows of one are never divided.
    Of files also ``path``, ``bytes`` and ``crc32``."""
    class_names: tuple[str, ...]
    root: Path | None
    vectors: Vectors | None = None
    images: Images | None = None
    features: tuple[str, ...] = ()
    left_out: int = 0
    """Rows that could not be used."""

    @property
    def labels(self) -> npt.NDArray[np.int64]:
        """(N,) given labels."""
        return self.rows["label"].to_numpy(np.int64)

    def where(self, split: str) -> npt.NDArray[np.int64]:
        """The rows of a split."""
        return np.flatnonzero((self.rows["split"] == split).to_numpy())


def read_own(
    place: Path,
    columns: Columns | None = None,
    *,
    skip_bad: bool = False,
    seed: int = 0,
    workers: int = 0,
) -> OwnData:
    """Read a folder or a file of the user's; every picture is opened once.

    Args:
        place: class folders, a folder with ``metadata.csv``, a table, an ``.npz``, or a ``save_to_disk``.
        columns: what columns are called.
        skip_bad: leave out rows that cannot be used, in place of refusing all.
        seed: of the split that is made where there is none.
        workers: processes that open pictures.

    Raises:
        ConfigError: no such place, no such column, or classes that cannot be told apart.
        IntegrityError: rows that cannot be used, each named by its number.
    """
    return _settled(_reader(place)(place, columns or Columns()), skip_bad, seed, workers)


def _settled(
    found: Found,
    skip_bad: bool = False,
    seed: int = 0,
    workers: int = 0,
    names: Sequence[str] | None = None,
) -> OwnData:
    if not len(found.rows):
        raise ConfigError(f"{found.place}: no rows")
    labels, bad = words(found.rows["label"]), Bad()
    bad.update(dict.fromkeys(np.flatnonzero([not label.strip() for label in labels]).tolist(), "no label"))
    split, trusted = _split(found, bad), _flags(found, bad)
    _refuse_empty_feature(found)
    seen = look_at(found, workers, bad).assign(trusted=trusted, split=split, group="")
    counted = [f"{found.unit} {row + found.first}" for row in range(len(seen))]
    seen["name"] = seen["name"].where(seen["name"] != "", pd.Series(counted, dtype=object))
    if "group" in found.rows:
        groups = words(found.rows["group"])
        seen["group"] = np.where(np.isin(groups, MISSING), "", groups)
    if not skip_bad or len(bad) == len(labels):
        hint = "mend them, or leave them out: --skip-bad"
        refuse(bad, len(labels), found.place, found.first, found.unit, hint)
    kept = np.setdiff1d(np.arange(len(labels)), list(bad))
    names = tuple(names) if names is not None else _classes(labels[kept], found)
    number = {name: place for place, name in enumerate(names)}
    rows = seen.iloc[kept].reset_index(drop=True)
    rows["label"] = np.array([number[label] for label in labels[kept]], dtype=np.int16)
    rows["clean_label"] = _clean(found, kept, number)
    vectors = None if found.vectors is None else found.vectors[kept]
    rows["unit"] = units(_copies(rows["content"], vectors).to_numpy(object), rows["group"].to_numpy(object))
    if split is None:
        rows["split"] = _made_split(rows, seed)
    images = None if found.images is None else found.images[kept]
    vectors = None if vectors is None else vectors.astype(np.float32)
    data = OwnData(rows, names, found.root, vectors, images, found.features, len(bad))
    _check_whole(data, found.place)
    return data


def own_arrays(
    samples: npt.NDArray[Any],
    labels: Sequence[Any] | npt.NDArray[Any],
    *,
    trusted: npt.NDArray[np.bool_] | None = None,
    groups: Sequence[Any] | None = None,
    split: Sequence[str] | None = None,
    names: Sequence[str] | None = None,
) -> OwnData:
    """A dataset of arrays: (N, D) numbers or (N, H, W, C) uint8; all are trained on without a split.

    ``names`` are the classes, in their order, where they are known; else they are the labels that occur.

    Raises:
        ConfigError, IntegrityError: as :func:`read_own`.
    """
    columns = {"label": labels, "trusted": trusted, "group": groups, "split": split}
    given = {name: np.asarray(values) for name, values in columns.items() if values is not None}
    place = Path("the arrays")
    for name, values in given.items():
        if values.shape != (len(samples),):
            raise ConfigError(f"{name} has shape {values.shape}; there are {len(samples)} samples")
    rows = pd.DataFrame(given)
    if "split" not in rows:
        rows["split"] = TRAIN
    if samples.ndim == 4 and samples.dtype == np.uint8:
        return _settled(Found(place, rows, images=samples, first=0), names=names)
    if samples.ndim != 2 or not np.issubdtype(samples.dtype, np.number):
        what = f"{samples.dtype} of shape {samples.shape}"
        raise ConfigError(f"samples are {what}; expected (N, D) numbers or (N, H, W, C) uint8")
    return _settled(Found(place, rows, vectors=samples, first=0), names=names)


def _refuse_empty_feature(found: Found) -> None:
    for name, values in zip(found.features, () if found.vectors is None else found.vectors.T, strict=False):
        if np.isnan(values).all():
            raise ConfigError(f"{found.place}: column {name!r} is empty", "leave it out")


def _copies(content: "pd.Series[str]", vectors: npt.NDArray[Any] | None) -> "pd.Series[str]":
    """(N,) what tells rows that are copies of each other: their content, unless vectors are equal by chance.

    They are where most rows have equals and no feature has half as many values as there are different rows:
    a few questions with a few answers each.
    """
    different = content.nunique()
    if vectors is None or different > 0.9 * len(content):
        return content
    most = max(len(np.unique(column)) for column in vectors.T)
    return content if most >= different / 2 else pd.Series(np.arange(len(content)).astype(str))


def _made_split(rows: pd.DataFrame, seed: int) -> npt.NDArray[np.str_]:
    """One row of five of each class for the test set, units undivided; no class is in the test set alone."""
    label, unit = rows["label"].to_numpy(), rows["unit"].to_numpy()
    test = divide(label, unit, _TEST_PARTS, stream(seed, "own-split")) == _TEST_PARTS - 1
    alone = ~np.isin(label, label[~test])
    return np.where(test & ~np.isin(unit, unit[alone]), TEST, TRAIN)


def _reader(place: Path) -> Callable[[Path, Columns], Found]:
    if place.is_dir():
        saved = any((place / name).is_file() for name in ("dataset_info.json", "dataset_dict.json"))
        return read_saved if saved else read_folder
    if not place.exists():
        raise ConfigError(f"{place}: no such file or folder")
    if place.suffix == ".npz":
        return read_npz
    if place.suffix in SUFFIXES:
        return read_table_file
    raise ConfigError(f"{place}: not a folder, .npz, {', '.join(SUFFIXES)}")


def _classes(labels: npt.NDArray[np.object_], found: Found) -> tuple[str, ...]:
    """The classes, in the order of their numbers where all are whole numbers, else of their names."""
    names = sorted(set(labels))
    trimmed: dict[str, str] = {}
    for name in names:
        other = trimmed.setdefault(" ".join(name.split()), name)
        if other != name:
            raise ConfigError(
                f"{found.place}: the labels {other!r} and {name!r} differ in blanks alone", "write them alike"
            )
    if len(names) < 2:
        raise ConfigError(f"{found.place}: every row has the label {names[0]!r}; there must be two classes")
    if len(names) > np.iinfo(np.int16).max:
        hint = "is the column of labels the right one? --label COLUMN"
        raise ConfigError(f"{found.place}: {len(names)} classes; at most {np.iinfo(np.int16).max}", hint)
    whole = all(name.lstrip("-").isdecimal() for name in names)
    return tuple(sorted(names, key=int) if whole else names)


def _clean(found: Found, kept: npt.NDArray[np.int64], number: dict[str, int]) -> npt.NDArray[np.int16]:
    if "clean_label" not in found.rows:
        return np.full(len(kept), UNKNOWN, dtype=np.int16)
    clean = words(found.rows["clean_label"])[kept]
    foreign = sorted(set(clean) - set(number) - {""})
    if foreign:
        raise ConfigError(f"{found.place}: the clean label {foreign[0]!r} is no row's label")
    return np.array([number.get(label, UNKNOWN) for label in clean], dtype=np.int16)


def _split(found: Found, bad: Bad) -> npt.NDArray[np.object_] | None:
    if "split" not in found.rows:
        return None
    written = words(found.rows["split"])
    split = np.array([SPLITS.get(word.lower(), "") for word in written], dtype=object)
    for row in np.flatnonzero(split == "").tolist():
        bad.setdefault(row, f"split {written[row]!r}; write train or test")
    return split


def _flags(found: Found, bad: Bad) -> npt.NDArray[np.bool_]:
    if "trusted" not in found.rows:
        return np.zeros(len(found.rows), dtype=bool)
    written = words(found.rows["trusted"])
    flags = [_YES.get(word.lower()) for word in written]
    for row, flag in enumerate(flags):
        if flag is None:
            bad.setdefault(row, f"trusted {written[row]!r}; write 1 or 0")
    return np.array([bool(flag) for flag in flags])


def _check_whole(data: OwnData, place: Path) -> None:
    train = data.rows["split"] == TRAIN
    counts = np.bincount(data.labels[train], minlength=len(data.class_names))
    if not train.any() or (counts > 0).sum() < 2:
        raise ConfigError(f"{place}: the training split has {int((counts > 0).sum())} classes; it needs two")
    if data.vectors is not None and not np.ptp(data.vectors[train.to_numpy()], axis=0).any():
        raise ConfigError(f"{place}: every feature is constant; nothing can be told from them")
