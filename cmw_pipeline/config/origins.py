"""Where a dataset comes from: published archives, image files that the user has, or an installed package."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal, TypeAlias

from pydantic import Field

from cmw_pipeline.config.facts import Hex, Row, read


@dataclass(frozen=True)
class Archive:
    """One published file: a ``.tar.gz`` with some wanted members, or a plain file, wanted itself.

    ``members`` are the wanted files under ``folder`` with their exact sizes in bytes (None where the
    size is not fixed) and published hashes (``md5:...`` or ``sha256:...``); ``beside`` are the others that
    may lie there. A plain file has no folder, and is its one member. ``begins`` are the first bytes of the
    published file, and ``name`` is what it is called where it is kept.
    """

    name: str
    urls: tuple[str, ...]
    sha256: str
    begins: bytes
    folder: str
    members: Mapping[str, tuple[int | None, str | None]]
    beside: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Archives:
    """A dataset that is published as arrays of images, perhaps in several forms with the same content.

    ``reader`` names the function, ``module:function`` in :mod:`cmw_pipeline.data`, that makes arrays of the
    members of a form. The first form is fetched where no other is asked for.
    """

    reader: str
    forms: Mapping[str, tuple[Archive, ...]]


@dataclass(frozen=True)
class ImageFiles:
    """A dataset of image files that does not fit in memory: never fetched, read where the user has it.

    ``home`` is where users get it, ``expected`` what the folder of ``--from`` holds. The first of the named
    test sets is the one that every table shows; with names, top-5 accuracy is recorded too. With ``by_shots``
    the classes of many, medium and few training images are named test sets beside the whole.
    """

    layout: Literal["webvision", "animal10n", "class-folders", "clothing1m", "imagenet-lt"]
    home: str
    expected: str
    test_sets: tuple[str, ...] = ()
    by_shots: bool = False


@dataclass(frozen=True)
class Bundled:
    """A dataset that comes with an installed package; ``reader`` is as in :class:`Archives`."""

    package: str
    reader: str


@dataclass(frozen=True)
class OwnVectors:
    """Vectors of the user's own, which only ``cmw import`` brings."""


Origin: TypeAlias = Archives | ImageFiles | Bundled | OwnVectors


class _Published(Row):
    """A line of ``archives.csv``: where an archive is, or a file that lies in it."""

    dataset: str
    form: str
    archive: str
    what: Literal["mirror", "member", "beside"]
    name: str
    begins: Hex = b""
    bytes: Annotated[int, Field(gt=0)] | None = None
    hash: Annotated[str, Field(pattern=r"^(md5:[0-9a-f]{32}|sha256:[0-9a-f]{64})$")] | None = None


def archives(dataset: str, reader: str) -> Archives:
    """The archives of a dataset in ``archives.csv``."""
    forms: dict[str, dict[str, list[_Published]]] = defaultdict(lambda: defaultdict(list))
    for row in _ROWS:
        if row.dataset == dataset:
            forms[row.form][row.archive].append(row)
    return Archives(
        reader,
        {form: tuple(_archive(*named) for named in files.items()) for form, files in forms.items()},
    )


def _archive(name: str, rows: list[_Published]) -> Archive:
    mirrors = [row for row in rows if row.what == "mirror"]
    inside = [row for row in rows if row.what == "member"] or [mirrors[0].model_copy(update={"name": name})]
    folder, _, _ = inside[0].name.rpartition("/")
    return Archive(
        name=name,
        urls=tuple(row.name for row in mirrors),
        sha256=str(mirrors[0].hash).removeprefix("sha256:"),
        begins=mirrors[0].begins,
        folder=folder,
        members={row.name.rpartition("/")[2]: (row.bytes, row.hash) for row in inside},
        beside=frozenset(row.name.rpartition("/")[2] for row in rows if row.what == "beside"),
    )


_ROWS = read("archives", _Published)
