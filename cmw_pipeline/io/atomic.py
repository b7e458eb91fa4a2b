"""Files and directories that appear whole under their final name, or not at all."""

import contextlib
import errno
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from cmw_pipeline.errors import SystemFault

_SYSTEM_WORDS = {
    errno.ENOSPC: "disk full",
    errno.EDQUOT: "disk quota exceeded",
    errno.EACCES: "permission denied",
    errno.EPERM: "permission denied",
    errno.EROFS: "read-only file system",
}


@contextlib.contextmanager
def system_faults(path: Path) -> Iterator[None]:
    """Turn an operating-system error while writing ``path`` into a one-line :class:`SystemFault`."""
    try:
        yield
    except OSError as error:
        words = _SYSTEM_WORDS.get(error.errno or 0, error.strerror or str(error))
        raise SystemFault(f"{path}: {words}") from error


@contextlib.contextmanager
def atomic_dir(path: Path) -> Iterator[Path]:
    """A temporary directory beside ``path`` that becomes ``path`` when the block succeeds.

    Everything is flushed to the disk before the rename; on any exception nothing is left. A directory
    that already has the final name is replaced.

    Raises:
        SystemFault: the disk is full, the place is read-only, and the like.
    """
    with system_faults(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent))
        try:
            yield draft
            _open_to_readers(draft)
            for file in draft.rglob("*"):
                _fsync(file)
            _fsync(draft)
            _replace_dir(draft, path)
        except BaseException:
            shutil.rmtree(draft, ignore_errors=True)
            raise


def atomic_file(path: Path, write: Callable[[Path], object]) -> None:
    """Let ``write`` fill a temporary file beside ``path``, then give it the final name.

    Raises:
        SystemFault: the disk is full, the place is read-only, and the like.
    """
    with system_faults(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=path.suffix, dir=path.parent)
        os.close(handle)
        draft = Path(name)
        try:
            write(draft)
            draft.chmod(0o644)
            _fsync(draft)
            draft.replace(path)
            _fsync(path.parent)
        except BaseException:
            draft.unlink(missing_ok=True)
            raise


def remove_scraps(folder: Path, names: str) -> None:
    """Remove the drafts that killed writers left of files whose names match a regular expression.

    For those alone who hold a lock on these files: a living writer's draft looks the same.
    """
    draft = re.compile(rf"\.(?:{names})\.[a-z0-9_]{{8}}(?:\.\w+)?")
    with system_faults(folder):
        for left in folder.iterdir() if folder.is_dir() else ():
            if draft.fullmatch(left.name):
                left.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text file atomically."""
    atomic_file(path, lambda draft: draft.write_text(text, encoding="utf-8"))


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file atomically."""
    atomic_file(path, lambda draft: draft.write_bytes(content))


def remove_tree(path: Path) -> None:
    """Remove a directory that is of no more use, if it is there."""
    shutil.rmtree(path, ignore_errors=True)


def remove_file(path: Path) -> None:
    """Remove a file that is of no more use, if it is there.

    Raises:
        SystemFault: it cannot be removed.
    """
    with system_faults(path):
        path.unlink(missing_ok=True)


def _open_to_readers(directory: Path) -> None:
    """Undo the private mode of a temporary directory; results are shared like any other file."""
    directory.chmod(0o755)


def _replace_dir(draft: Path, path: Path) -> None:
    if path.exists():
        shutil.rmtree(path)
    draft.rename(path)
    _fsync(path.parent)


def _fsync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
