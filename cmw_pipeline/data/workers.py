"""Worker processes that decode: the same results in the same order, however many there are."""

import atexit
import signal
import weakref
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Any, Generic, TypeVar

import torch
from torch.utils.data import DataLoader, Dataset

from cmw_pipeline.errors import SystemFault
from cmw_pipeline.runtime.signals import STOP_SIGNALS

T = TypeVar("T")
R = TypeVar("R")
_OPEN: weakref.WeakSet[Generator[Any, None, None]] = weakref.WeakSet()
"""What may have workers."""


class _Made(Dataset[R], Generic[T, R]):
    """Looks up an item by making it."""

    def __init__(self, make: Callable[[T], R]) -> None:
        self.make = make

    def __getitem__(self, item: T) -> R:
        return self.make(item)


def in_workers(make: Callable[[T], R], items: Iterable[T], workers: int, pinned: bool = False) -> Iterator[R]:
    """``make(item)`` of every item, in order, two items a worker ahead of what is asked for.

    Args:
        make: a function of the item alone; it returns its failures, for what it raises comes as a traceback.
        items: consumed as the workers get ahead.
        workers: processes; 0: this one, and nothing ahead.
        pinned: put tensors into memory that a GPU copies from without waiting.

    Raises:
        SystemFault: a worker died.
    """
    made = _made_in_workers(make, items, workers, pinned)
    _OPEN.add(made)
    return made


@atexit.register
def _close() -> None:
    """Workers that are left pay no attention to being asked to stop, and an interpreter waits for them."""
    for made in list(_OPEN):
        made.close()


def _made_in_workers(
    make: Callable[[T], R], items: Iterable[T], workers: int, pinned: bool
) -> Generator[R, None, None]:
    loader: DataLoader[R] = DataLoader(
        _Made(make),
        sampler=items,
        batch_size=None,
        num_workers=workers,
        pin_memory=pinned,
        generator=torch.Generator(),  # the default one would be moved by every start
        worker_init_fn=_leave_signals_to_the_parent,
    )
    try:
        yield from loader
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        hint = "give the run more memory (and /dev/shm), or fewer processes: CMW_WORKERS=4"
        raise SystemFault("a process that decodes images died", hint) from None


def _leave_signals_to_the_parent(_number: int) -> None:
    """A process group is asked to stop as a whole; who waits for its workers needs them to the end."""
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
