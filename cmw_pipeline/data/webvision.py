"""WebVision 1.0 and, beside it, the validation images of ILSVRC12, whose classes are the same synsets."""

import logging
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from cmw_pipeline.config.datasets import DatasetFacts
from cmw_pipeline.config.plain_files import plain
from cmw_pipeline.data.identity import refuse_doubled, shifted_hint, whole_number
from cmw_pipeline.data.listings import File, Listing, fault_of, listed, missing, names_in, read_list
from cmw_pipeline.errors import IntegrityError
from cmw_pipeline.types import TEST, TRAIN

WEBVISION, ILSVRC12 = "webvision", "ilsvrc12"
_ALL_CLASSES = 1000
_ILSVRC12_FOLDER, _TRUTH = "imagenet/val", "ILSVRC2012_validation_ground_truth.txt"
log = logging.getLogger(__name__)


def read_webvision(root: Path, facts: DatasetFacts) -> Listing:
    """WebVision 1.0: ``info/`` lists, ``google/`` and ``flickr/`` folders, ``val_images_256/``.

    With fewer than 1000 classes it is the Google part of the first ones. ILSVRC12's validation images are a
    second test set where ``imagenet/val/`` has them (see :func:`_ilsvrc12`).

    Raises:
        ConfigError: a list is not there.
        IntegrityError: a list is not of its form, or names classes that are not there.
    """
    synsets = _synsets(root, facts)
    parts = ["google"] if facts.num_classes < _ALL_CLASSES else ["google", "flickr"]
    files = [
        *(file for part in parts for file in _train(root, part, facts)),
        *_validation(root, facts),
        *_ilsvrc12(root / _ILSVRC12_FOLDER, list(synsets), facts),
    ]
    wanted = (file for file in files if file[1] < facts.num_classes)
    return listed(wanted, list(synsets.values())[: facts.num_classes])


def _synsets(root: Path, facts: DatasetFacts) -> dict[str, str]:
    """Synset -> its words, in the order that numbers the classes."""
    file = root / "info" / "synsets.txt"
    try:
        lines = plain(file).read_text(encoding="utf-8").splitlines()
    except OSError:
        raise missing(file, facts) from None
    except UnicodeDecodeError:
        raise IntegrityError(f"{file}: not UTF-8") from None
    refuse_doubled((line.partition(" ")[0] for line in lines if line.strip()), f"{file}: synset")
    synsets = {line.partition(" ")[0]: line.partition(" ")[2] or line for line in lines if line.strip()}
    if len(synsets) < facts.num_classes:
        raise IntegrityError(f"{file}: {len(synsets)} synsets; expected at least {facts.num_classes}")
    return synsets


def _train(root: Path, part: str, facts: DatasetFacts) -> Iterator[File]:
    for path, label, fault in _numbered(root / "info" / f"train_filelist_{part}.txt", facts):
        yield path, label, TRAIN, "", fault


def _validation(root: Path, facts: DatasetFacts) -> Iterator[File]:
    for path, label, fault in _numbered(root / "info" / "val_filelist.txt", facts):
        yield f"val_images_256/{path}", label, TEST, WEBVISION, fault


def _numbered(file: Path, facts: DatasetFacts) -> list[tuple[str, int, str]]:
    """Path, class number, and what is wrong with the path, of each line of a list."""
    lines = [(path, _number(label, file), fault) for path, label, fault in read_list(file, facts)]
    _refuse_shift(file, [label for _, label, _ in lines], facts)
    return lines


def _refuse_shift(file: Path, labels: list[int], facts: DatasetFacts) -> None:
    if hint := shifted_hint(np.array(labels, np.int64), facts.num_classes):
        raise IntegrityError(f"{file}: no file has the label 0", hint)


def _ilsvrc12(folder: Path, synsets: list[str], facts: DatasetFacts) -> Iterator[File]:
    """The 50,000 validation images, as synset folders or flat with a list.

    The list is ``val.txt`` with ``NAME CLASS`` (a synset, or its number in WebVision's synsets.txt), or the
    ground truth of the development kit, with its ``meta.mat`` beside it or in ``../``.
    """
    if not folder.is_dir():
        log.warning("%s is not there: no second test set", folder)
        return
    names, number_of = names_in(folder, facts), {synset: number for number, synset in enumerate(synsets)}
    of_file: Iterable[tuple[str, str]]
    inside = [name for name in names if (folder / name).is_dir()]
    if inside:
        of_file = ((f"{name}/{file}", name) for name in inside for file in names_in(folder / name, facts))
        source = folder
    elif (folder / "val.txt").is_file():
        source = folder / "val.txt"
        of_file = [(path, label) for path, label, _ in read_list(source, facts)]
        _refuse_shift(source, [_number(label, source) for _, label in of_file if label.isdecimal()], facts)
    else:
        source, images = _truth(folder, facts), [name for name in names if name.endswith(".JPEG")]
        of_file = zip(images, _synsets_of_truth(source, len(images)), strict=True)
    for path, name in of_file:
        if name not in number_of and not name.isdecimal():
            raise IntegrityError(f"{source}: {name} is no synset of WebVision's synsets.txt")
        label = _number(name, source) if name.isdecimal() else number_of[name]
        yield f"{_ILSVRC12_FOLDER}/{path}", label, TEST, ILSVRC12, fault_of(path)


def _truth(folder: Path, facts: DatasetFacts) -> Path:
    for place in (folder, folder.parent, folder.parent / "ILSVRC2012_devkit_t12" / "data"):
        if (place / _TRUTH).is_file() and (place / "meta.mat").is_file():
            return place / _TRUTH
    raise missing(folder / "val.txt", facts)


def _synsets_of_truth(file: Path, images: int) -> list[str]:
    """The synset of each image in the order of their names, whose numbers only ``meta.mat`` explains."""
    from scipy.io import loadmat  # comes with scikit-learn; few need it

    try:
        numbers = np.loadtxt(plain(file), dtype=np.int64, ndmin=1)
        rows = loadmat(file.with_name("meta.mat"), squeeze_me=True)["synsets"]
        refuse_doubled((str(row["ILSVRC2012_ID"]) for row in rows), f"{file.with_name('meta.mat')}: class")
        synset_of = {int(row["ILSVRC2012_ID"]): str(row["WNID"]) for row in rows}
        found = [synset_of[int(number)] for number in numbers]
    except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
        raise IntegrityError(f"{file}: not the development kit's, with its meta.mat: {error}") from None
    if len(found) != images:
        raise IntegrityError(f"{file}: {len(found)} classes for {images} images")
    return found


def _number(label: str, file: Path) -> int:
    number = whole_number(label)
    if not isinstance(number, int) or number >= _ALL_CLASSES:
        raise IntegrityError(f"{file}: label {label[:80]!r}; expected 0 to {_ALL_CLASSES - 1}")
    return number
