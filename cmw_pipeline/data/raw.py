"""The raw artefact: ``labels.parquet``, one row an image, beside ``images.npy`` or a table of image files."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from cmw_pipeline.config.contracts import Raw
from cmw_pipeline.config.plain_files import plain
from cmw_pipeline.data.scale import Scale
from cmw_pipeline.errors import IntegrityError
from cmw_pipeline.io.atomic import write_text
from cmw_pipeline.io.tables import Columns, read_arrow, read_columns, write_array, write_columns
from cmw_pipeline.types import TEST, TRAIN, UNUSED, Images, Labels, Vectors


def write_raw(out: Path, images: Images, labels: Labels, split: npt.NDArray[np.str_]) -> None:
    """Write images, (N, H, W, C) uint8, with their labels, (N,), and splits, (N,), into a folder.

    Raises:
        IntegrityError: the three do not belong together, or a value is not one of its column's.
        SystemFault: the disk is full, and the like.
    """
    if not len(images) == len(labels) == len(split):
        raise IntegrityError(f"{out}: {len(images)} images, {len(labels)} labels, {len(split)} splits")
    columns: Columns = {"index": np.arange(len(labels)), "label": labels, "split": split}
    _check_images(out / Raw.IMAGES, images)
    _check_labels(out / Raw.LABELS, columns, len(images))
    write_array(out / Raw.IMAGES, images)
    write_columns(out, Raw.LABELS, columns)


def write_files(out: Path, files: Columns) -> None:
    """Write a dataset of image files: the columns of ``Raw.LABELS`` and of ``Raw.FILES``.

    Raises:
        IntegrityError: a value is not one of its column's.
        SystemFault: the disk is full, and the like.
    """
    labels, listed = ({name: files[name] for name in file.columns} for file in (Raw.LABELS, Raw.FILES))
    _check_labels(out / Raw.LABELS, labels, len(files["index"]), (TRAIN, TEST, UNUSED))
    write_columns(out, Raw.FILES, listed)
    write_columns(out, Raw.LABELS, labels)


class Folder(NamedTuple):
    """Where image files are: their folder, and whether the user listed them or the folder's layout does."""

    root: Path
    imported: bool


def write_folder(out: Path, folder: Folder) -> None:
    """Write where the image files of a dataset are, for whoever reads them again."""
    text = json.dumps({"root": str(folder.root), "imported": folder.imported})
    write_text(out / Raw.FOLDER, text + "\n")


def read_folder(path: Path) -> Folder | None:
    """Where the image files of a dataset are; None where it has none, or nothing is there that says so."""
    try:
        said = json.loads(plain(path / Raw.FOLDER).read_text(encoding="utf-8"))
        return Folder(Path(said["root"]), bool(said["imported"]))
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def write_vectors(
    out: Path, vectors: Vectors, scale: Scale, labels: npt.NDArray[np.integer], split: npt.NDArray[Any]
) -> None:
    """Write (N, D) vectors, the scale of the training ones, and (N,) labels and splits.

    Raises:
        IntegrityError: a value is not one of its column's.
        SystemFault: the disk is full, and the like.
    """
    index = np.arange(len(labels), dtype=np.int32)
    columns: Columns = {"index": index, "label": labels.astype(np.int16), "split": split.astype(object)}
    _check_labels(out / Raw.LABELS, columns, len(vectors))
    write_array(out / Raw.VECTORS, vectors)
    write_array(out / Raw.SCALE, np.stack([scale.mean, scale.factor]))
    write_columns(out, Raw.LABELS, columns)


def read_vectors(path: Path) -> tuple[Vectors, Scale] | None:
    """The vectors of a raw artefact, mapped from the file, and their scale; None where it has pictures.

    Raises:
        IntegrityError: a file is damaged.
    """
    file = path / Raw.VECTORS
    if not file.is_file():
        return None
    try:
        vectors = np.load(file, mmap_mode="r", allow_pickle=False)
        mean, factor = np.load(path / Raw.SCALE, allow_pickle=False)
    except (OSError, EOFError, ValueError) as error:
        raise IntegrityError(f"{file}: not vectors with a scale: {error}") from None
    return vectors, Scale(mean, factor)


def read_files(path: Path) -> pa.Table | None:
    """The table of image files of a raw artefact, in the order of its labels; None where it has an array.

    Raises:
        IntegrityError: the file is damaged.
    """
    file = path / Raw.FILES
    return read_arrow(file, Raw.FILES.columns) if file.is_file() else None


def read_marks(path: Path) -> Columns | None:
    """What else is known of data of one's own, in the order of the labels; None of other datasets.

    Raises:
        IntegrityError: the file is damaged.
    """
    return read_columns(path, Raw.MARKS) if (path / Raw.MARKS).is_file() else None


def read_labels(path: Path) -> Columns:
    """The label table of a raw artefact of either form, one row an image.

    Raises:
        IntegrityError: a file is missing or damaged, or it does not belong to the images.
    """
    files, vectors = read_files(path), read_vectors(path)
    samples = files if vectors is None else vectors[0]
    images = len(read_images(path) if samples is None else samples)
    columns = read_columns(path, Raw.LABELS)
    splits = (TRAIN, TEST) if files is None else (TRAIN, TEST, UNUSED)
    _check_labels(path / Raw.LABELS, columns, images, splits)
    return columns


def read_images(path: Path) -> Images:
    """Open the images alone: the raw labels are the clean ones, which training must not see.

    Raises:
        IntegrityError: the file is missing or damaged.
    """
    file = path / Raw.IMAGES
    try:
        images: Images = np.load(file, mmap_mode="r", allow_pickle=False)
    except (OSError, EOFError, ValueError) as error:
        raise IntegrityError(f"{file}: not an array on disk: {error}") from None
    _check_images(file, images)
    return images


def _check_images(file: Path, images: Images) -> None:
    if not isinstance(images, np.ndarray):
        raise IntegrityError(f"{file}: {type(images).__name__}; expected one array")
    if images.dtype != np.uint8 or images.ndim != 4:
        found = f"{images.dtype} of shape {images.shape}"
        raise IntegrityError(f"{file}: {found}; expected uint8 of shape (N, H, W, C)")


def _check_labels(file: Path, columns: Columns, images: int, splits: tuple[str, ...] = (TRAIN, TEST)) -> None:
    rows = len(columns["index"])
    if rows != images:
        raise IntegrityError(f"{file}: {rows} rows; {Raw.IMAGES.name} holds {images} images")
    right = {
        "index": columns["index"] == np.arange(rows),
        "label": columns["label"] >= 0,
        "split": np.isin(columns["split"].astype(str), splits),
    }
    for name, fine in right.items():
        wrong = np.flatnonzero(~np.ma.filled(fine, False))  # a missing value is wrong too
        if wrong.size:
            row = int(wrong[0])
            found = columns[name][row : row + 1].tolist()[0]
            raise IntegrityError(f"{file}: row {row}: {name} is {found!r}")
