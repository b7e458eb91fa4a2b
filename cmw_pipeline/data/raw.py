"""The raw artefact: ``labels.parquet``, one row an image, beside ``images.npy`` or a table of image files."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from cmw_pipeline.errors import IntegrityError
from cmw_pipeline.io.tables import read_table, write_array, write_table
from cmw_pipeline.types import FILE_COLUMNS, RAW_COLUMNS, TEST, TRAIN, UNUSED, Images, Labels

IMAGES, LABELS, FILES = "images.npy", "labels.parquet", "files.parquet"


def write_raw(out: Path, images: Images, labels: Labels, split: npt.NDArray[np.str_]) -> None:
    """Write images, (N, H, W, C) uint8, with their labels, (N,), and splits, (N,), into a folder.

    Raises:
        IntegrityError: the three do not belong together, or a value is not one of its column's.
        SystemFault: the disk is full, and the like.
    """
    if not len(images) == len(labels) == len(split):
        raise IntegrityError(f"{out}: {len(images)} images, {len(labels)} labels, {len(split)} splits")
    index = np.arange(len(labels), dtype=np.int32)
    frame = pd.DataFrame({"index": index, "label": labels, "split": split})
    _check_images(out / IMAGES, images)
    _check_labels(out / LABELS, frame, len(images))
    write_array(out / IMAGES, images)
    write_table(out / LABELS, frame, RAW_COLUMNS)


def write_files(out: Path, files: pd.DataFrame) -> None:
    """Write a dataset of image files: rows with the columns of ``RAW_COLUMNS`` and ``FILE_COLUMNS``.

    Raises:
        IntegrityError: a value is not one of its column's.
        SystemFault: the disk is full, and the like.
    """
    frame = files[list(RAW_COLUMNS)].astype({"index": np.int32, "label": np.int16})
    _check_labels(out / LABELS, frame, len(files), (TRAIN, TEST, UNUSED))
    write_table(out / FILES, files[list(FILE_COLUMNS)].astype({"index": np.int32}), FILE_COLUMNS)
    write_table(out / LABELS, frame, RAW_COLUMNS)


def read_files(path: Path) -> pd.DataFrame | None:
    """The table of image files of a raw artefact, in the order of its labels; None where it has an array.

    Raises:
        IntegrityError: the file is damaged.
    """
    return read_table(path / FILES, FILE_COLUMNS) if (path / FILES).is_file() else None


def read_labels(path: Path) -> pd.DataFrame:
    """The label table of a raw artefact of either form, one row an image.

    Raises:
        IntegrityError: a file is missing or damaged, or it does not belong to the images.
    """
    files = read_files(path)
    images = len(read_images(path)) if files is None else len(files)
    frame = read_table(path / LABELS, RAW_COLUMNS)
    splits = (TRAIN, TEST) if files is None else (TRAIN, TEST, UNUSED)
    _check_labels(path / LABELS, frame, images, splits)
    return frame


def read_raw(path: Path) -> tuple[Images, pd.DataFrame]:
    """Open a raw artefact.

    Returns:
        Images, (N, H, W, C) uint8, mapped from the file and read-only; and the label table with the
        columns of :data:`cmw_pipeline.types.RAW_COLUMNS`, N rows.

    Raises:
        IntegrityError: a file is missing or damaged, or the two do not belong together.
    """
    return read_images(path), read_labels(path)


def read_images(path: Path) -> Images:
    """Open the images alone: the raw labels are the clean ones, which training must not see.

    Raises:
        IntegrityError: the file is missing or damaged.
    """
    file = path / IMAGES
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


def _check_labels(
    file: Path, frame: pd.DataFrame, images: int, splits: tuple[str, ...] = (TRAIN, TEST)
) -> None:
    if len(frame) != images:
        raise IntegrityError(f"{file}: {len(frame)} rows; {IMAGES} holds {images} images")
    # Written so that a missing value is wrong too.
    right = {
        "index": frame["index"] == np.arange(len(frame)),
        "label": frame["label"] >= 0,
        "split": frame["split"].isin(splits),
    }
    for column, fine in right.items():
        wrong = np.flatnonzero(~fine.to_numpy(dtype=bool))
        if wrong.size:
            row = int(wrong[0])
            raise IntegrityError(f"{file}: row {row}: {column} is {frame[column].iloc[row]!r}")
