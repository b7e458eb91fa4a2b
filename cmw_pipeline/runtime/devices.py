"""Which device a run trains on: one lease a GPU, held by a file lock that dies with the process.

Snakemake only counts GPUs; four jobs with ``gpu=1`` would all land on device 0. The lease gives each a
device of its own. Slurm assigns devices itself; what it assigned to one job can be leased inside that job.
"""

import contextlib
import hashlib
import itertools
import logging
import os
import re
import stat
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from filelock import FileLock, Timeout

from cmw_pipeline.errors import ConfigError, SystemFault
from cmw_pipeline.io.atomic import system_faults

PLACE = Path("/tmp")  # noqa: S108  (the folder made in it is checked to be ours)
"""Where the leases of every user's runs lie, whatever ``TMPDIR`` each of them has."""
_MOST_SHARES = 1000
_LISTED = re.compile(r"GPU (?P<number>\d+): .*\(UUID: (?P<uuid>GPU-[^)]+)\)")
log = logging.getLogger(__name__)


def visible_gpus() -> list[str]:
    """Identifiers of the GPUs this process may use, as ``CUDA_VISIBLE_DEVICES`` spells them."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        names = [name.strip() for name in visible.split(",")]
        # CUDA, too, stops at the first entry that is no device.
        return list(itertools.takewhile(lambda name: name not in ("", "-1", "NoDevFiles"), names))
    lines = [line for line in _listed() if line.startswith("GPU ")]
    return [str(number) for number in range(len(lines))]


def _listed() -> list[str]:
    """The lines of ``nvidia-smi -L``; none where the driver does not answer."""
    try:
        command = ["nvidia-smi", "-L"]
        listed = subprocess.run(command, capture_output=True, text=True, timeout=30)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        return []
    return listed.stdout.splitlines() if listed.returncode == 0 else []


def devices_of(gpus: Sequence[str]) -> dict[str, str]:
    """Each device once -> its spelling among ``gpus``: a number and a UUID, or its beginning, may mean one.

    What the driver does not list keeps its spelling.
    """
    listed = [match for line in _listed() if (match := _LISTED.match(line))]
    found: dict[str, str] = {}
    for gpu in gpus:
        meant = [row["uuid"] for row in listed if gpu == row["number"] or _begins(row["uuid"], gpu)]
        found.setdefault(meant[0] if len(meant) == 1 else gpu, gpu)
    return found


def _begins(uuid: str, gpu: str) -> bool:
    return gpu.upper().startswith("GPU-") and uuid.upper().startswith(gpu.upper())


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
        # CUDA's own numbers go by speed, the driver's, which the leases go by, by place.
        os.environ.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
        spelt = devices_of(gpus)
        with lease(shares(list(spelt)), lease_folder()) as held:
            gpu = spelt[held.rpartition("@")[2]]
            os.environ["CUDA_VISIBLE_DEVICES"] = gpu
            log.info("leased GPU %s", gpu)
            yield "cuda"


def lease_folder() -> Path:
    """Where the leases lie: one folder a user; or one a Slurm job, each of which may count devices from 0.

    Raises:
        SystemFault: it cannot be made, or what is there is no folder of ours.
    """
    job = os.environ.get("SLURM_JOB_ID")
    folder = PLACE / (f"{lease_prefix()}-job-{job}" if job else lease_prefix())
    with system_faults(folder):
        with contextlib.suppress(FileExistsError):
            folder.mkdir(mode=0o700)
        found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise SystemFault(f"{folder}: not a folder of ours, so no GPU can be leased", "have it removed")
    return folder


def lease_prefix() -> str:
    """How the names of this user's lease folders begin."""
    return f"cmw-gpu-leases-{os.getuid()}"


def shares(gpus: Sequence[str]) -> list[str]:
    """What can be leased: each GPU once, or as often as ``CMW_RUNS_PER_GPU`` says, spread over the GPUs.

    Two GPUs for two runs each are ``0``, ``1``, ``1@0`` and ``1@1``: the second run on 0, the second on 1.

    Raises:
        ConfigError: the variable is not a whole number from 1 on.
    """
    text = os.environ.get("CMW_RUNS_PER_GPU", "1")
    plain = text.isascii() and text.isdecimal() and len(text) < len(str(_MOST_SHARES))
    if not plain or int(text) < 1:
        found = f"CMW_RUNS_PER_GPU={text[:20]!r}"
        raise ConfigError(f"{found}: write how many runs share a GPU, from 1 on and below {_MOST_SHARES}")
    return [f"{share}@{gpu}" if share else gpu for share in range(int(text)) for gpu in gpus]


@contextlib.contextmanager
def lease(names: Sequence[str], folder: Path, poll_seconds: float = 0.2) -> Iterator[str]:
    """Hold the first free name; wait while all are held. A holder's death frees its name.

    Args:
        names: what can be leased.
        folder: where the lock files lie, one a name; shared by all who compete.
        poll_seconds: pause between two looks at the locks.
    """
    waiting = False
    while True:
        for name in names:
            lock = FileLock(folder / f"{lease_file(name)}.lock")
            if _taken(lock):
                try:
                    yield name
                finally:
                    lock.release()
                return
        if not waiting:
            log.info("all of %s are leased: waiting", ", ".join(names))
            waiting = True
        time.sleep(poll_seconds)


def _taken(lock: FileLock) -> bool:
    """Whether the lock was free and is ours now."""
    file = Path(lock.lock_file)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout:
        return False
    except OSError as error:
        raise SystemFault(f"{file}: no lease can be had: {error.strerror or error}", "remove it") from None
    return True


def lease_file(device: str) -> str:
    """A name for a device's file, one device one name; long ones by their hash."""
    plain = device.replace("/", "_")
    return plain if len(plain) < 100 and plain.isprintable() else hashlib.sha256(device.encode()).hexdigest()
