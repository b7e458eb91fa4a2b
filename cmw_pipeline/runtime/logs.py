"""Where a run's words go: a progress bar on a terminal, plain lines everywhere else."""

import contextlib
import logging
import sys
import time
import warnings
from collections.abc import Iterable, Iterator
from contextvars import ContextVar
from typing import TypeVar

from rich.progress import track

T = TypeVar("T")
_LINE_EVERY = 60.0
"""Seconds."""
log = logging.getLogger(__name__)
_SILENT = ContextVar("silent", default=False)


def start_logging() -> None:
    """Send the package's log to standard error, one line a message."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S", force=True)
    # PyTorch's own forward-mode rules still use what it has deprecated.
    warnings.filterwarnings("ignore", message=r".*torch\.jit\.script.* is deprecated", category=FutureWarning)


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Inside the block, the loop says nothing of its epochs: somebody else does."""
    loop, before = logging.getLogger("cmw_pipeline.training.loop"), _SILENT.set(True)
    level = loop.level
    loop.setLevel(logging.WARNING)
    try:
        yield
    finally:
        loop.setLevel(level)
        _SILENT.reset(before)


def progress(steps: Iterable[T], total: int, title: str) -> Iterable[T]:
    """The steps themselves, behind a progress bar on a terminal, with a line a minute elsewhere."""
    if _SILENT.get() or sys.stderr is None:
        return steps
    if sys.stderr.isatty():
        return track(steps, description=title, total=total, transient=True)
    return _told(steps, total, title)


def _told(steps: Iterable[T], total: int, title: str) -> Iterator[T]:
    began = last = time.monotonic()
    for done, step in enumerate(steps, start=1):
        yield step
        now = time.monotonic()
        if now - last >= _LINE_EVERY and done < total:
            last, left = now, (now - began) / done * (total - done)
            log.info("%s  step %d of %d, %s left of the epoch", title, done, total, in_words(left))


def in_words(seconds: float) -> str:
    """A time to wait, to two digits or so.

    >>> [in_words(seconds) for seconds in (42, 600, 9000, 400000)]
    ['42 s', '10 min', '2.5 h', '4.6 d']
    """
    for size, unit, digits in ((86400, "d", 1), (3600, "h", 1), (60, "min", 0)):
        if seconds >= 2 * size or (unit != "d" and seconds >= size):
            return f"{seconds / size:.{digits}f} {unit}"
    return f"{seconds:.0f} s"
