"""Reading a ``.tar.gz`` member by member. Nothing is ever extracted: there is no path to escape by."""

import contextlib
import gzip
import io
import tarfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path

from cmw_pipeline.errors import IntegrityError
from cmw_pipeline.io.atomic import system_faults

Members = Mapping[str, tuple[int | None, str | None]]
"""File name -> (exact size in bytes or None, published hash or None)."""

SIZE_CAP = 160 << 20
"""Most bytes of a member without a frozen size; the largest known one has 155,249,918."""
_SLACK = 16 << 20
"""Room for the headers and the small files that come along."""


class _Bounded(gzip.GzipFile):
    """A gzip file that gives no more than ``limit`` unpacked bytes; ``last`` is what the last read gave."""

    def __init__(self, archive: Path, limit: int) -> None:
        super().__init__(archive, "rb")
        self.limit = limit
        self.last = b""

    def read(self, size: int | None = -1) -> bytes:
        # A header can announce any size, a negative one too, and a negative one would read everything.
        if size is None or size < 0:
            raise ValueError("a member of negative size")
        self._check(self.tell() + size)
        self.last = super().read(size)
        return self.last

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._check(offset)
        return super().seek(offset, whence)

    def _check(self, position: int) -> None:
        if position > self.limit:
            raise ValueError(f"it unpacks to more than {self.limit} bytes")


def read_members(
    archive: Path, folder: str, members: Members, beside: frozenset[str] = frozenset()
) -> dict[str, bytes]:
    """Read the wanted files of an archive into memory, and refuse an archive with anything odd in it.

    Args:
        archive: a ``.tar.gz`` file.
        folder: the one folder of the archive.
        members: the wanted files; all of them must be there, once.
        beside: names of the files that may lie beside them.

    Returns:
        Name without the folder -> content.

    Raises:
        IntegrityError: truncated or damaged; a member that is missing, unexpected, doubled, of another
            size, or not a plain file; bytes behind the end.
        SystemFault: the file cannot be read.
    """
    found: dict[str, bytes] = {}
    seen: set[str] = set()
    limit = sum(size or SIZE_CAP for size, _ in members.values()) + _SLACK
    with _opened(archive, limit) as (tar, stream):
        while (info := tar.next()) is not None:
            name = _checked_name(info, archive, folder, members, beside)
            if info.name in seen:
                raise IntegrityError(f"{archive}: member {info.name!r} is there twice")
            seen.add(info.name)
            if name in members:
                found[name] = _content(stream, info, archive)
        _check_end(stream, archive)
    missing = ", ".join(f"{folder}/{name}" for name in members if name not in found)
    if missing:
        raise IntegrityError(f"{archive}: without the member {missing}")
    return found


def top_folder(archive: Path) -> str:
    """The folder in which an archive's first member lies.

    Raises:
        IntegrityError: not a tar.gz, or an empty one.
        SystemFault: the file cannot be read.
    """
    with _opened(archive, _SLACK) as (tar, _):
        info = tar.next()
    if info is None:
        raise IntegrityError(f"{archive}: an empty archive")
    return info.name.partition("/")[0]


@contextlib.contextmanager
def _opened(archive: Path, limit: int) -> Iterator[tuple[tarfile.TarFile, _Bounded]]:
    with system_faults(archive):
        try:
            with _Bounded(archive, limit) as stream, tarfile.open(fileobj=stream, mode="r:") as tar:
                yield tar, stream
        except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile, ValueError) as error:
            raise IntegrityError(f"{archive}: not a whole tar.gz: {error}") from None


def _checked_name(
    info: tarfile.TarInfo, archive: Path, folder: str, members: Members, beside: frozenset[str]
) -> str:
    """The member's name inside the folder; empty for the folder itself."""
    if info.name == folder and info.isdir():
        return ""
    inside, _, name = info.name.partition("/")
    if inside != folder or (name not in members and name not in beside):
        raise IntegrityError(f"{archive}: unexpected member {info.name!r}")
    # Not isreg(): that is also true of sparse members, which unpack to more than they hold.
    if info.type not in (tarfile.REGTYPE, tarfile.AREGTYPE) or info.issparse():
        raise IntegrityError(f"{archive}: member {info.name!r} is not a plain file")
    size = members[name][0] if name in members else None
    if size is not None and info.size != size:
        raise IntegrityError(f"{archive}: member {info.name!r} has {info.size} bytes; expected {size}")
    if not 0 <= info.size <= SIZE_CAP:
        raise IntegrityError(
            f"{archive}: member {info.name!r} has {info.size} bytes; at most {SIZE_CAP} are read"
        )
    return name


def _content(stream: _Bounded, info: tarfile.TarInfo, archive: Path) -> bytes:
    stream.seek(info.offset_data)
    data = stream.read(info.size)
    if len(data) != info.size:
        raise IntegrityError(f"{archive}: ends inside the member {info.name!r}")
    return data


def _check_end(stream: _Bounded, archive: Path) -> None:
    """Everything from the block that ended the listing is zero; reading on checks gzip's checksum."""
    chunk = stream.last
    while chunk:
        if chunk.strip(b"\0"):
            raise IntegrityError(f"{archive}: bytes behind the last member")
        chunk = stream.read(512)
