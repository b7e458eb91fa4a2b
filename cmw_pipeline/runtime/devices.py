"""Which device a run trains on: one lease a GPU, held by a file lock that dies with the process.

Snakemake only counts GPUs; four jobs with ``gpu=1`` would all land on device 0. The lease gives each a
device of its own. Slurm assigns devices itself; what it assigned to one job can be leased inside that job.
"""

import contextlib
import itertools
import logging
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from filelock import FileLock, Timeout

from cmw_pipeline.errors import ConfigError

log = logging.getLogger(__name__)


def visible_gpus() -> list[str]:
    """Identifiers of the GPUs this process may use, as ``CUDA_VISIBLE_DEVICES`` spells them."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        names = [name.strip() for name in visible.split(",")]
        # CUDA, too, stops at the first entry that is no device.
        return list(itertools.takewhile(lambda name: name not in ("", "-1", "NoDevFiles"), names))
    try:
        command = ["nvidia-smi", "-L"]
        listed = subprocess.run(command, capture_output=True, text=True, timeout=30)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        return []
    lines = [line for line in listed.stdout.splitlines() if line.startswith("GPU ")]
    return [str(number) for number in range(len(lines))] if listed.returncode == 0 else []


@contextlib.contextmanager
def leased_device() -> Iterator[str]:
    """The device of this run, ``cuda`` or ``cpu``, ours alone inside the block.

    Sets ``CUDA_VISIBLE_DEVICES`` to the leased GPU, so call it before CUDA is first used.
    """
    gpus = visible_gpus()
    if not gpus:
        log.info("no GPU is visible: training on the CPU")
        yield "cpu"
    elif "SLURM_JOB_ID" in os.environ and len(gpus) == 1:
        yield "cuda"  # the job's own
    else:
        with lease(shares(gpus), _folder()) as held:
            gpu = held.rpartition("@")[2]
            os.environ["CUDA_VISIBLE_DEVICES"] = gpu
            log.info("leased GPU %s", gpu)
            yield "cuda"


def _folder() -> Path:
    """Where the leases lie: one folder a user; or one a Slurm job, each of which may count devices from 0."""
    job = os.environ.get("SLURM_JOB_ID")
    whose = f"{os.getuid()}-job-{job}" if job else f"{os.getuid()}"
    return Path(tempfile.gettempdir(), f"cmw-gpu-leases-{whose}")


def shares(gpus: Sequence[str]) -> list[str]:
    """What can be leased: each GPU once, or as often as ``CMW_RUNS_PER_GPU`` says, spread over the GPUs.

    Two GPUs for two runs each are ``0``, ``1``, ``1@0`` and ``1@1``: the second run on 0, the second on 1.

    Raises:
        ConfigError: the variable is not a whole number from 1 on.
    """
    text = os.environ.get("CMW_RUNS_PER_GPU", "1")
    if not text.isdecimal() or int(text) < 1:
        raise ConfigError(f"CMW_RUNS_PER_GPU={text!r}: write how many runs share a GPU, from 1 on")
    return [f"{share}@{gpu}" if share else gpu for share in range(int(text)) for gpu in gpus]


@contextlib.contextmanager
def lease(names: Sequence[str], folder: Path, poll_seconds: float = 0.2) -> Iterator[str]:
    """Hold the first free name; wait while all are held. A holder's death frees its name.

    Args:
        names: what can be leased.
        folder: where the lock files lie, one a name; shared by all who compete.
        poll_seconds: pause between two looks at the locks.
    """
    folder.mkdir(parents=True, exist_ok=True)
    waiting = False
    while True:
        for name in names:
            lock = FileLock(folder / f"{name.replace('/', '_')}.lock")
            with contextlib.suppress(Timeout):
                lock.acquire(timeout=0)
                try:
                    yield name
                finally:
                    lock.release()
                return
        if not waiting:
            log.info("all of %s are leased: waiting", ", ".join(names))
            waiting = True
        time.sleep(poll_seconds)
