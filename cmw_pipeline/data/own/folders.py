"""Folders of pictures: a folder for each class, or Hugging Face's with a file of metadata."""

import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from cmw_pipeline.data.own.found import Columns, Found
from cmw_pipeline.data.own.tables import read_table_file
from cmw_pipeline.errors import ConfigError

SPLITS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("test", "testing", "val", "valid", "validation", "dev"), "test"),
}
"""Name of a split, as people write it -> train or test."""
PICTURES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff")
_METADATA = ("metadata.csv", "metadata.jsonl", "metadata.parquet")


def read_folder(root: Path, columns: Columns) -> Found:
    """Read ``CLASS/PICTURE``, ``SPLIT/CLASS/PICTURE``, or pictures that a ``metadata`` file lists.

    Raises:
        ConfigError: nothing of the kind is there.
    """
    parts = [name for name in _folders(root) if name.lower() in SPLITS] or [""]
    listed = {part: _metadata(root / part) for part in parts}
    if not any(listed.values()) and (file := _metadata(root)):
        listed = {"": file}
    if any(listed.values()):
        found = [_listed(root, part, file, columns) for part, file in listed.items() if file]
        return dataclasses.replace(
            found[0], place=root, rows=pd.concat([f.rows for f in found], ignore_index=True)
        )
    pictures = [row for part in parts for row in _class_folders(root, part)]
    if not pictures:
        hint = "expected CLASS/PICTURE, SPLIT/CLASS/PICTURE, or a metadata.csv with file_name and label"
        raise ConfigError(f"{root}: no pictures in folders of classes", hint)
    frame = pd.DataFrame(pictures, columns=["path", "label", "split"])
    return Found(root, frame if parts != [""] else frame.drop(columns="split"), root=root)


def _folders(folder: Path) -> list[str]:
    return sorted(e.name for e in os.scandir(folder) if e.is_dir() and not e.name.startswith("."))


def _metadata(folder: Path) -> Path | None:
    return next((folder / name for name in _METADATA if (folder / name).is_file()), None)


def _listed(root: Path, part: str, file: Path, columns: Columns) -> Found:
    found = read_table_file(file, columns)
    if "path" not in found.rows:
        raise ConfigError(f"{file}: no column file_name", "name the column of pictures: --path COLUMN")
    rows = found.rows.assign(path=found.rows["path"].map(lambda path: str(Path(part, str(path)))))
    if part:
        rows = rows.assign(split=part)
    return dataclasses.replace(found, rows=rows, root=root)


def _class_folders(root: Path, part: str) -> Iterator[tuple[str, str, str]]:
    """Path, class and split of every picture, also below folders within a class."""
    for name in _folders(root / part):
        for place, _, files in sorted(os.walk(root / part / name)):
            for file in sorted(files):
                if file.lower().endswith(PICTURES) and not file.startswith("."):
                    yield str((Path(place) / file).relative_to(root)), name, part
