"""ImageNet-LT (Liu et al., CVPR 2019): ILSVRC12 cut to a long tail, by lists of ``PATH LABEL``."""

import dataclasses
import hashlib
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from cmw_pipeline.config.datasets import DatasetFacts
from cmw_pipeline.data.identity import whole_number
from cmw_pipeline.data.listings import (
    Entry,
    Listing,
    fault_of,
    listed,
    missing,
    read_lines,
    refuse_repeated,
)
from cmw_pipeline.errors import IntegrityError
from cmw_pipeline.types import TEST, TRAIN, UNUSED

_PARTS = {"train": (TRAIN, ""), "val": (UNUSED, ""), "test": (TEST, "test")}
"""The list ``val``, of ILSVRC12's training images, is the pool of a clean meta-set."""
_PUBLISHED = {
    "train": "a063f095fcd475db4cf8b0658c4b73955535bbf9",
    "val": "3ed3188b2f44829ce2dec1cc27040d8d40984088",
    "test": "76a2fb9749d6cd29e765cc4f8c270f2504131e2f",
}
"""The lists' ids in git, of classifier-balancing, SADE and BALMS alike."""
_PLACES = ("", "ImageNet_LT", "data_txt/ImageNet_LT")


def read_imagenet_lt(root: Path, facts: DatasetFacts) -> Listing:
    """A folder with ILSVRC12's ``train/`` and ``val/``, which may be flat, and the three lists.

    Raises:
        ConfigError: a list or the images are not there.
        IntegrityError: a line is not of its form, its class is not that of its synset, or its image is in a
            line before.
    """
    lists = {part: _list(root, part) for part in _PARTS}
    parts = {part: _entries(file, facts) for part, file in lists.items()}
    every = [entry for entries in parts.values() for entry in entries]
    refuse_repeated(every)
    synsets = _synsets(every, facts, lists["train"])
    flat = _is_flat(root, parts["test"], facts)
    files = []
    for part, entries in parts.items():
        for entry in entries:
            path = PurePosixPath(entry.path)
            shown = str(path.parent.parent / path.name if flat and part == "test" else path)
            files.append((shown, entry.label, *_PARTS[part], fault_of(shown)))
    return dataclasses.replace(listed(files, synsets), problem=problem_of_lists(lists))


def problem_of_lists(lists: Mapping[str, Path]) -> str | None:
    """What tells the lists from the published ones; None where they are those."""
    for part, published in _PUBLISHED.items():
        content = (file := lists[part]).read_bytes()
        found = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
        if found != published:
            return f"{file.name} is not the published list: its id in git is {found}; expected {published}"
    return None


def _list(root: Path, part: str) -> Path:
    names = [Path(place, f"{stem}{part}.txt") for place in _PLACES for stem in ("ImageNet_LT_", "")]
    return next((root / name for name in names if (root / name).is_file()), root / names[0])


def _entries(file: Path, facts: DatasetFacts) -> list[Entry]:
    entries = []
    for row, line in read_lines(file, facts):
        path, _, text = line.rpartition(" ")
        label = whole_number(text)
        if len(PurePosixPath(path).parts) < 3 or not isinstance(label, int) or label >= facts.num_classes:
            expected = f"FOLDER/SYNSET/IMAGE and a label from 0 to {facts.num_classes - 1}"
            raise IntegrityError(f"{file}: line {row}: {line[:80]!r}; expected {expected}")
        entries.append(Entry(file, row, path, label))
    return entries


def _synsets(entries: list[Entry], facts: DatasetFacts, train: Path) -> list[str]:
    """The synsets, sorted, whose places are the classes' numbers, as every line has it."""
    found = sorted({PurePosixPath(entry.path).parts[-2] for entry in entries})
    if len(found) != facts.num_classes:
        raise IntegrityError(f"{train}: {len(found)} synsets in the lists; expected {facts.num_classes}")
    number = {synset: place for place, synset in enumerate(found)}
    for entry in entries:
        synset = PurePosixPath(entry.path).parts[-2]
        if number[synset] != entry.label:
            where, expected = f"{entry.file}: line {entry.row}", f"{number[synset]}, its place among all"
            raise IntegrityError(f"{where}: {synset} has the label {entry.label}; expected {expected}")
    return found


def _is_flat(root: Path, test: list[Entry], facts: DatasetFacts) -> bool:
    """Whether the test images lie in one folder, without those of their synsets."""
    if not test:
        raise IntegrityError(f"{_list(root, 'test')}: lists no image")
    path = PurePosixPath(test[0].path)
    if (root / path).is_file():
        return False
    if (root / path.parent.parent / path.name).is_file():
        return True
    raise missing(root / path, facts)
