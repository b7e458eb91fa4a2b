"""Being asked to stop: a signal, or the death of the workflow engine that started us."""

import contextlib
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import psutil

from cmw_pipeline.errors import Preempted

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR2, signal.SIGHUP)
"""SIGTERM is what clusters are asked to send ahead of a time limit; NCCL may use SIGUSR1. SIGHUP comes when
the terminal closes, and stays ignored where ``nohup`` has it ignored."""


@dataclass
class StopRequest:
    """Set once somebody asks the run to stop; ``reason`` says who.

    While ``at_once`` is True there is nothing to save yet, and a signal ends the run where it stands: it
    may be waiting for another run's device or artefact.
    """

    reason: str | None = None
    engine: psutil.Process | None = None
    at_once: bool = False

    def __bool__(self) -> bool:
        if self.reason is None and self.engine and _has_died(self.engine):
            self.reason = "the workflow engine that started this run has died"
        return self.reason is not None


class _AtOnce(BaseException):
    """Goes through every ``except Exception`` on its way, such as the log's around each line it writes."""


@contextlib.contextmanager
def stop_requests() -> Iterator[StopRequest]:
    """Inside the block, stop signals set the request in place of ending the process.

    The loop looks at it after every step, writes a checkpoint and leaves. Snakemake does not pass
    signals on to its jobs, so its death counts as a request too.

    Raises:
        Preempted: a signal came while the request's ``at_once`` was set.
    """
    request = StopRequest(engine=_engine())

    def ask(number: int, _frame: FrameType | None) -> None:
        request.reason = signal.Signals(number).name
        if request.at_once:
            request.at_once = False
            raise _AtOnce

    heeded = [n for n in STOP_SIGNALS if n != signal.SIGHUP or signal.getsignal(n) != signal.SIG_IGN]
    before = {number: signal.signal(number, ask) for number in heeded}
    try:
        yield request
    except _AtOnce:
        raise Preempted(f"stopped by {request.reason} before training began") from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def runs(process: psutil.Process, program: str) -> bool:
    """Whether a process is a program of this name, or an interpreter that runs it."""
    with contextlib.suppress(psutil.Error):
        return any(Path(word).name == program for word in process.cmdline()[:2])
    return False


def _engine() -> psutil.Process | None:
    """The nearest ancestor that is Snakemake."""
    return next((parent for parent in psutil.Process().parents() if runs(parent, "snakemake")), None)


def _has_died(process: psutil.Process) -> bool:
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
