"""Clothing1M (Xiao et al., CVPR 2015): a million labels from the web, and clean lists beside them."""

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

from cmw_pipeline.config.datasets import DatasetFacts
from cmw_pipeline.data.identity import whole_number
from cmw_pipeline.data.listings import (
    Entry,
    File,
    Listing,
    fault_of,
    is_stray,
    listed,
    missing,
    names_in,
    read_lines,
    refuse_repeated,
)
from cmw_pipeline.errors import ConfigError, IntegrityError
from cmw_pipeline.types import TEST, TRAIN, UNUSED

_PARTS = {"noisy_train": (TRAIN, ""), "clean_val": (UNUSED, ""), "clean_test": (TEST, "test")}
"""Lists that are used: training by noisy labels, the pool of a clean meta-set, and the test set."""
_COUNTS = {"noisy_train": 1_000_000, "clean_val": 14_313, "clean_test": 10_526}
_PLACES = ("", "annotations", "images")
_FOLDERS = {"noisy_train": ("noisy_train",), "clean_val": ("clean_val", "val", "clean_valid")} | {
    "clean_test": ("clean_test", "test")
}
_IMAGES = "images/"
log = logging.getLogger(__name__)


def read_clothing1m(root: Path, facts: DatasetFacts) -> Listing:
    """The images of ``noisy_train``, ``clean_val`` and ``clean_test``; never others that have a noisy label.

    In the layouts that are about: key lists and files of labels, or lists with both, in the folder, in
    ``annotations/`` or ``images/``; pictures below ``images/`` or without it; or class folders 0 to 13.

    Raises:
        ConfigError: a list or the images are not there.
        IntegrityError: a list is not of its form, names an image twice, or one without a label.
    """
    if (root / "noisy_train").is_dir():
        return listed(_folders(root, facts), facts.class_names)
    parts = {part: list(_entries(root, part, facts)) for part in _PARTS}
    refuse_repeated(entry for entries in parts.values() for entry in entries)
    for part, entries in parts.items():
        if len(entries) != _COUNTS[part]:
            log.warning("%s: %d images in %s; published are %d", root, len(entries), part, _COUNTS[part])
    off = "" if _below(root, parts["noisy_train"], facts) else _IMAGES
    files = (
        (path := entry.path.removeprefix(off), entry.label, *_PARTS[part], fault_of(path))
        for part, entries in parts.items()
        for entry in entries
    )
    return listed(files, facts.class_names)


def _entries(root: Path, part: str, facts: DatasetFacts) -> Iterator[Entry]:
    """The images of a part, from its key list or from a list that has their labels, too."""
    both, keys = _place(root, f"{part}.txt"), _place(root, f"{part}_key_list.txt")
    if both.is_file():
        for row, line in read_lines(both, facts):
            yield Entry(both, row, *_key_and_label(both, row, line, facts))
        return
    wanted = list(read_lines(keys, facts))
    labels = _labels(_place(root, f"{part.partition('_')[0]}_label_kv.txt"), facts)
    for row, key in wanted:
        if key not in labels:
            raise IntegrityError(f"{keys}: line {row}: {key[:80]!r} has no label in the file of labels")
        yield Entry(keys, row, key, labels[key])


def _labels(file: Path, facts: DatasetFacts) -> Mapping[str, int]:
    labels: dict[str, int] = {}
    for row, line in read_lines(file, facts):
        key, label = _key_and_label(file, row, line, facts)
        if key in labels:
            raise IntegrityError(f"{file}: line {row}: {key[:80]!r} has a label before; expected one")
        labels[key] = label
    return labels


def _key_and_label(file: Path, row: int, line: str, facts: DatasetFacts) -> tuple[str, int]:
    """Divided at the last blank."""
    key, _, text = line.rpartition(" ")
    label = whole_number(text)
    if not key or not isinstance(label, int) or label >= facts.num_classes:
        expected = f"a key and a label from 0 to {facts.num_classes - 1}"
        raise IntegrityError(f"{file}: line {row}: {line[:80]!r}; expected {expected}")
    return key.strip(), label


def _place(root: Path, name: str) -> Path:
    return next((root / place / name for place in _PLACES if (root / place / name).is_file()), root / name)


def _below(root: Path, train: list[Entry], facts: DatasetFacts) -> bool:
    """Whether the images lie below ``images/``, as the keys say; else the folder has what that holds."""
    if not train:
        raise ConfigError(f"{_place(root, 'noisy_train_key_list.txt')}: lists no image")
    first = train[0].path
    if (root / first).is_file():
        return True
    if (root / first.removeprefix(_IMAGES)).is_file():
        log.info("%s: the images lie beside the lists, without %s", root, _IMAGES)
        return False
    raise missing(root / first, facts)


def _folders(root: Path, facts: DatasetFacts) -> Iterator[File]:
    """Class folders, whose names are numbers, perhaps as ``q0003``."""
    for part, names in _FOLDERS.items():
        folder = next((root / name for name in names if (root / name).is_dir()), root / names[0])
        for name in names_in(folder, facts):
            label = whole_number(name.removeprefix("q"))
            if is_stray(name):
                continue
            if not isinstance(label, int) or label >= facts.num_classes:
                raise IntegrityError(f"{folder / name}: expected a class folder 0 to {facts.num_classes - 1}")
            for file in names_in(folder / name, facts):
                path = str(PurePosixPath(folder.name, name, file))
                yield path, label, *_PARTS[part], fault_of(path)
