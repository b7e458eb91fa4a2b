"""Which image files a dataset has by its layout, and whether its folder still holds those that were read."""

import hashlib
import logging
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from cmw_pipeline.config.contracts import Raw
from cmw_pipeline.config.datasets import FACTS, DatasetFacts
from cmw_pipeline.data.clothing1m import read_clothing1m
from cmw_pipeline.data.imagenet_lt import read_imagenet_lt
from cmw_pipeline.data.listings import Listing, printable, read_animal10n, read_class_folders
from cmw_pipeline.data.pictures import Unreadable, decode, read_bytes
from cmw_pipeline.data.webvision import read_webvision
from cmw_pipeline.errors import ConfigError, IntegrityError
from cmw_pipeline.io.tables import read_table

READERS: dict[str, Callable[[Path, DatasetFacts], Listing]] = {
    "animal10n": read_animal10n,
    "class-folders": read_class_folders,
    "clothing1m": read_clothing1m,
    "imagenet-lt": read_imagenet_lt,
    "webvision": read_webvision,
}
"""By the layout in :class:`~cmw_pipeline.config.origins.ImageFiles`."""
_PLACE = ["label", "split", "test_set"]
log = logging.getLogger(__name__)


def stamp(root: Path, files: pd.DataFrame) -> str:
    """Which files there are, as what, of which size and time: cheap, for files that nobody touched.

    Args:
        root: the folder of the dataset.
        files: with ``path``, ``label``, ``split`` and ``test_set``.
    """
    rows = files[["path", *_PLACE]].itertuples(index=False, name=None)
    seen = hashlib.sha256()
    for row in sorted(rows):
        seen.update(repr((*row, *_size_and_time(root / row[0]))).encode("utf-8", "surrogatepass"))
    return seen.hexdigest()


def _size_and_time(file: Path) -> tuple[int, int]:
    try:
        found = file.stat()
    except (OSError, ValueError):
        return -1, -1
    return found.st_size, found.st_mtime_ns


def listed_files(root: Path, source: str) -> pd.DataFrame:
    """The files of a dataset whose paths are good, as its layout has them.

    Raises:
        ConfigError: a folder is missing, or holds what does not belong there.
        IntegrityError: a list is not of its form.
    """
    facts = FACTS[source]
    assert facts.files is not None
    return READERS[facts.files.layout](root, facts).good


def folder_change(raw: Path, source: str, notes: dict[str, Any]) -> str | None:
    """What has changed in the folder of a dataset of image files since it was read; None where nothing has.

    Files of the size and the time that they had then are taken for the same; where any differs, all are
    read, and their CRC-32 decides.

    Args:
        raw: the folder of the raw artefact.
        source: the dataset's.
        notes: of its manifest.
    """
    root = Path(notes["root"])
    labels, files = (read_table(raw / file, file.columns) for file in (Raw.LABELS, Raw.FILES))
    known = labels.merge(files, on="index")
    try:
        there = known if notes.get("imported") else listed_files(root, source)
    except (ConfigError, IntegrityError) as error:
        return error.message
    if stamp(root, there) == notes.get("stamp"):
        return None
    log.info("%s: files have another size or time than when they were read; reading them again", root)
    return next(_changes(root, known, there), None)


def _changes(root: Path, known: pd.DataFrame, there: pd.DataFrame) -> Iterator[str]:
    """The first that is found is enough; what costs least is looked at first."""
    was = {row[0]: row[1:] for row in known[["path", *_PLACE, "bytes", "crc32"]].itertuples(index=False)}
    now = {row[0]: row[1:] for row in there[["path", *_PLACE]].itertuples(index=False)}
    for path in was:
        if path not in now or not (root / path).is_file():
            yield f"{printable(path)} is gone"
    for path, place in now.items():
        if path in was and was[path][: len(place)] != place:
            yield f"{printable(path)} is in another class or split"
        if path not in was and _is_picture(root / path):
            yield f"{printable(path)} is new"
    for path, (*_, size, crc32) in was.items():
        if (root / path).stat().st_size != size or zlib.crc32((root / path).read_bytes()) != crc32:
            yield f"{printable(path)} is another picture"


def _is_picture(file: Path) -> bool:
    """Whether a file that was not used before can be now."""
    try:
        decode(read_bytes(file))
    except Unreadable:
        return False
    return True
