"""Being asked to stop: a signal, or the death of the workflow engine that started us."""

import contextlib
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from cmw_pipeline.errors import Preempted

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR2)
"""SIGTERM is what clusters are asked to send ahead of a time limit; NCCL may use SIGUSR1."""


@dataclass
class StopRequest:
    """Set once somebody asks the run to stop; ``reason`` says who.

    While ``at_once`` is True there is nothing to save yet, and a signal ends the run where it stands: it
    may be waiting for another run's device or artefact.
    """

    reason: str | None = None
    engine: tuple[int, str] | None = None
    at_once: bool = False

    def __bool__(self) -> bool:
        if self.reason is None and self.engine and _start_time(self.engine[0]) != self.engine[1]:
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

    before = {number: signal.signal(number, ask) for number in STOP_SIGNALS}
    try:
        yield request
    except _AtOnce:
        raise Preempted(f"stopped by {request.reason} before training began") from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _engine() -> tuple[int, str] | None:
    """(process id, start time) of the nearest ancestor that is Snakemake."""
    pid = _parent("self")
    while pid > 1:
        started = _start_time(pid)
        if started and "snakemake" in _command_line(pid):
            return pid, started
        pid = _parent(str(pid))
    return None


def _stat(pid: str) -> list[str]:
    """The fields of /proc/PID/stat after the command name, which may hold spaces."""
    try:
        return Path("/proc", pid, "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def _parent(pid: str) -> int:
    fields = _stat(pid)
    return int(fields[1]) if fields else 0


def _start_time(pid: int) -> str:
    fields = _stat(str(pid))
    return fields[19] if fields and fields[0] != "Z" else ""


def _command_line(pid: int) -> str:
    try:
        words = Path("/proc", str(pid), "cmdline").read_bytes().split(b"\0")[:2]
    except OSError:
        return ""
    return b" ".join(Path(word.decode(errors="replace")).name.encode() for word in words).decode()
