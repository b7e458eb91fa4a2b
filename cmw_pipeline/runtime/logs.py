"""Where a run's words go: a progress bar on a terminal, plain lines everywhere else."""

import contextlib
import logging
import sys
import warnings
from collections.abc import Iterable, Iterator
from contextvars import ContextVar
from typing import TypeVar

from rich.progress import track

T = TypeVar("T")
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
    """The steps themselves, behind a progress bar where standard error is a terminal."""
    if _SILENT.get() or sys.stderr is None or not sys.stderr.isatty():
        return steps
    return track(steps, description=title, total=total, transient=True)
