"""Which image files a dataset has, by the layouts in which users have them: lists, and class folders."""

import codecs
import logging
import os
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import pandas as pd

from cmw_pipeline.config.datasets import DatasetFacts
from cmw_pipeline.config.plain_files import plain
from cmw_pipeline.data.identity import whole_number
from cmw_pipeline.errors import ConfigError, IntegrityError
from cmw_pipeline.types import TEST, TRAIN, UNUSED

_COLUMNS = ["path", "label", "split", "test_set", "fault"]
_TRAIN_FOLDERS, _TEST_FOLDERS, _META_FOLDER = ("train",), ("test", "val"), "meta"
STRAY = "a stray file, no picture"
"""The fault of what file managers and people leave among pictures; it does not count as a loss."""
_STRAY_NAMES = ("thumbs.db", "ehthumbs.db", "desktop.ini", "picasa.ini", "__macosx", "@eadir", "$recycle.bin")
_STRAY_SUFFIXES = (
    *(".txt", ".md", ".rst", ".csv", ".tsv", ".json", ".xml", ".yaml", ".yml", ".html", ".pdf"),
    *(".log", ".ini", ".db", ".lnk", ".url", ".py"),
)
log = logging.getLogger(__name__)
File = tuple[str, int, str, str, str]
"""Path below the dataset's folder, label, split, test set, and what is wrong with the path itself."""


@dataclass(frozen=True)
class Listing:
    """The files of a dataset, before any is opened."""

    files: pd.DataFrame
    """Columns ``path``, ``label``, ``split``, ``test_set``, and ``fault``, empty for a good path."""
    class_names: tuple[str, ...]
    problem: str | None = None
    """What tells its lists from published ones, where there are such."""

    @property
    def good(self) -> pd.DataFrame:
        """The files whose paths have no fault."""
        return self.files[self.files["fault"] == ""]


def listed(files: Iterable[File], class_names: Iterable[str]) -> Listing:
    """A listing in which a file that is named again, in whatever spelling of its path, counts as a fault."""
    frame = pd.DataFrame(files, columns=_COLUMNS)
    again = frame["path"].map(PurePosixPath).duplicated() & (frame["fault"] == "")
    frame.loc[again, "fault"] = "listed twice"
    return Listing(frame, tuple(class_names))


def read_animal10n(root: Path, facts: DatasetFacts) -> Listing:
    """ANIMAL-10N: ``training/`` and ``testing/`` with ``LABEL_img_NUMBER.jpg``, perhaps below ``raw_image/``.

    Raises:
        ConfigError: the folders are not there.
        IntegrityError: a name does not begin with a class.
    """
    base = next((root / name for name in ("", "raw_image") if (root / name / "training").is_dir()), root)
    files = [
        _file(base.relative_to(root) / folder / name, _leading_label(base / folder / name, facts), *rest)
        for folder, *rest in (("training", TRAIN, ""), ("testing", TEST, "test"))
        for name in names_in(base / folder, facts)
        if not is_stray(name)
    ]
    return listed(files, facts.class_names)


def read_class_folders(root: Path, facts: DatasetFacts) -> Listing:
    """A folder for each class below ``train/`` and ``test/`` (or ``val/``); classes in sorted order.

    ``meta/`` may hold trustworthy images the same way: they are not trained on, and are what a meta-set
    ``clean-K`` takes.

    Raises:
        ConfigError: a folder is missing, or there are other classes than the dataset has.
    """
    train, test = (_first_of(root, names, facts) for names in (_TRAIN_FOLDERS, _TEST_FOLDERS))
    classes = [name for name in names_in(train, facts) if (train / name).is_dir() and not is_stray(name)]
    if len(classes) != facts.num_classes:
        raise ConfigError(f"{train}: {len(classes)} class folders; expected {facts.num_classes}")
    parts = [(train, TRAIN, ""), (test, TEST, "test")]
    if (root / _META_FOLDER).is_dir():
        parts.append((root / _META_FOLDER, UNUSED, ""))
    number_of = {name: number for number, name in enumerate(classes)}
    files: list[File] = []
    for folder, split, test_set in parts:
        for name in names_in(folder, facts):
            inside, place = folder / name, Path(folder.name, name)
            if is_stray(name):
                files.append((_shown(place), 0, split, test_set, STRAY))
                continue
            if name not in number_of:
                raise _no_class(inside, train)
            files += [
                _file(place / file, number_of[name], split, test_set) for file in _in_class(inside, facts)
            ]
    return listed(files, classes)


def is_stray(name: str) -> bool:
    """Whether a file or folder of this name is what file managers and people leave among pictures.

    >>> is_stray("Thumbs.db"), is_stray("README.txt"), is_stray("cat.heic")
    (True, True, False)
    """
    return name.lower() in _STRAY_NAMES or name.lower().endswith(_STRAY_SUFFIXES)


def _in_class(folder: Path, facts: DatasetFacts) -> list[str]:
    names = names_in(folder, facts)
    inner = next((name for name in names if (folder / name).is_dir() and not is_stray(name)), None)
    if inner is not None:
        raise ConfigError(
            f"{folder / inner}: a folder inside a class folder", f"put its pictures into {folder}"
        )
    return names


def _no_class(place: Path, train: Path) -> ConfigError:
    if place.is_dir():
        return ConfigError(f"{place}: {train.name}/ has no such class")
    return ConfigError(f"{place}: a file beside the class folders", "put it into the folder of its class")


def names_in(folder: Path, facts: DatasetFacts) -> list[str]:
    """What a folder holds, sorted, without hidden files.

    Raises:
        ConfigError: there is no such folder; the message says where to get the dataset.
    """
    try:
        return sorted(name for name in os.listdir(folder) if not name.startswith("."))  # noqa: PTH208
    except OSError:
        raise missing(folder, facts) from None


def missing(place: Path, facts: DatasetFacts) -> ConfigError:
    """A part of a dataset that is not where it should be."""
    assert facts.files is not None
    hint = f"--from FOLDER with {facts.files.expected}; from {facts.files.home}"
    return ConfigError(f"{place}: not there", hint)


def read_list(file: Path, facts: DatasetFacts) -> Iterator[tuple[str, str, str]]:
    """Path, label as text, and what is wrong with the path, of each line ``path label``.

    Raises:
        ConfigError: there is no such file.
        IntegrityError: a line is not of that form.
    """
    try:
        lines = plain(file).read_bytes().removeprefix(codecs.BOM_UTF8).splitlines()
    except OSError:
        raise missing(file, facts) from None
    for number, line in enumerate(lines, 1):
        path, _, label = line.strip().rpartition(b" ")
        if not path or not label.isalnum():
            raise IntegrityError(f"{file}: line {number}: {line[:80]!r}; expected a path and a label")
        try:
            text = path.decode("utf-8")
        except UnicodeDecodeError:
            yield path.decode("utf-8", "backslashreplace"), label.decode("ascii"), "a name that is not UTF-8"
        else:
            yield text, label.decode("ascii"), fault_of(text)


@dataclass(frozen=True)
class Entry:
    """An image in a line of a list."""

    file: Path
    row: int
    """From 1."""
    path: str
    label: int


def read_lines(file: Path, facts: DatasetFacts) -> Iterator[tuple[int, str]]:
    """Number from 1 and text of each line that is not empty, without blanks around it.

    Raises:
        ConfigError: there is no such file.
        IntegrityError: a line is not UTF-8.
    """
    try:
        lines = plain(file).read_bytes().removeprefix(codecs.BOM_UTF8).splitlines()
    except OSError:
        raise missing(file, facts) from None
    for number, line in enumerate(lines, 1):
        try:
            text = line.decode("utf-8").strip()
        except UnicodeDecodeError:
            raise IntegrityError(f"{file}: line {number}: {line[:80]!r} is not UTF-8") from None
        if text:
            yield number, text


def refuse_repeated(entries: Iterable[Entry]) -> None:
    """See that no image is in two lines, of one list or of several.

    Raises:
        IntegrityError: one is; both lines are named.
    """
    seen: dict[str, Entry] = {}
    for entry in entries:
        before = seen.setdefault(entry.path, entry)
        if before is not entry:
            again = f"{entry.path[:80]!r} is in line {before.row} of {before.file.name}, too"
            raise IntegrityError(f"{entry.file}: line {entry.row}: {again}; expected it once")


def fault_of(path: str) -> str:
    """What is wrong with a path below the dataset's folder; "" for nothing.

    >>> fault_of("../etc/passwd"), fault_of("google/q0001/a.jpg")
    ('outside the folder', '')
    """
    parts = PurePosixPath(path)
    if parts.is_absolute() or ".." in parts.parts:
        return "outside the folder"
    try:
        path.encode("utf-8")
    except UnicodeEncodeError:  # how Python shows bytes of a name that are no UTF-8
        return "a name that is not UTF-8"
    control = any(unicodedata.category(letter) == "Cc" for letter in path)
    return "a name with control characters" if control else ""


def printable(path: str) -> str:
    """A path as a terminal may show it, without what could steer the terminal."""
    return path if path.isprintable() else path.encode("unicode_escape").decode("ascii")


def _file(path: Path, label: int, split: str, test_set: str) -> File:
    fault = STRAY if is_stray(path.name) else fault_of(str(path))
    return _shown(path), label, split, test_set, fault


def _shown(path: Path) -> str:
    return str(path).encode("utf-8", "backslashreplace").decode("utf-8")


def _leading_label(file: Path, facts: DatasetFacts) -> int:
    number = whole_number(file.name.partition("_")[0])
    if not isinstance(number, int) or number >= facts.num_classes:
        raise IntegrityError(f"{file}: expected a name LABEL_img_NUMBER, label 0 to {facts.num_classes - 1}")
    return number


def _first_of(root: Path, names: tuple[str, ...], facts: DatasetFacts) -> Path:
    found = [root / name for name in names if (root / name).is_dir()]
    if not found:
        raise missing(root / names[0], facts)
    for other in found[1:]:
        log.warning("%s is not read: %s is", other, found[0])
    return found[0]
