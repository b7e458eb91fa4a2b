"""A Slurm of one node on the loopback address: own keys, ports and folders, nothing left when it is stopped.

The daemons are those of Debian's packages ``slurm-wlm`` and ``munge``. GPUs are plain files, which Slurm
hands out as if they were devices.
"""

import contextlib
import getpass
import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

DAEMONS = ("munged", "slurmctld", "slurmd")
CPUS, GPUS = 8, 4
GUARD = 1800
"""Seconds after which a wait is in vain; a loaded machine takes its time."""
CONFIG = """
ClusterName=loopback
SlurmctldHost={host}(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={folder}/munge.socket
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=sched_interval=1,bf_interval=1
GresTypes=gpu
SlurmdParameters=config_overrides
ReturnToService=2
MpiDefault=none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MinJobAge=7200
KillWait=60
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory=64000 Gres=gpu:{gpus} State=UNKNOWN
PartitionName=all Nodes={host} Default=YES MaxTime=INFINITE State=UP OverSubscribe=NO
"""


def missing():
    """Names of the daemons that this machine lacks."""
    return [name for name in DAEMONS if not shutil.which(name, path="/usr/sbin:/usr/bin:/sbin:/bin")]


def free_ports(count):
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


class Cluster:
    """``with Cluster(folder) as cluster``; the folder's path has to be short, sockets lie in it."""

    def __init__(self, folder):
        self.folder = folder
        self.host = socket.gethostname().split(".")[0]
        self.environment = {
            "SLURM_CONF": str(folder / "slurm.conf"),
            "PATH": f"{folder}/bin:{os.environ['PATH']}",
        }
        self.daemons = []

    def __enter__(self):
        for name in ("state", "spool", "bin"):
            (self.folder / name).mkdir(parents=True)
        self.folder.chmod(0o755)
        key = self.folder / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o600)
        devices = [self.folder / f"gpu{number}" for number in range(GPUS)]
        for device in devices:
            device.symlink_to("/dev/null")  # Slurm wants a device, and opens none of them
        facts = {"host": self.host, "user": getpass.getuser(), "folder": self.folder, "cpus": CPUS}
        (self.folder / "slurm.conf").write_text(CONFIG.format(**facts, gpus=GPUS, ports=free_ports(2)))
        gres = ["AutoDetect=off", *(f"Name=gpu Flags=nvidia_gpu_env File={device}" for device in devices)]
        (self.folder / "gres.conf").write_text("\n".join(gres) + "\n")
        # Inside a job the plugin's step forgets where this Slurm's configuration lies.
        srun = self.folder / "bin" / "srun"
        where = f"SLURM_CONF={self.environment['SLURM_CONF']}"
        srun.write_text(f'#!/bin/sh\n{where} exec {shutil.which("srun")} "$@"\n')
        srun.chmod(0o755)
        try:
            self._start_all()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _start_all(self):
        munge = {name: self.folder / f"munge.{name}" for name in ("socket", "key", "pid", "log", "seed")}
        self._start(
            "munged", "--foreground", "--force", f"--socket={munge['socket']}", f"--key-file={munge['key']}",
            f"--pid-file={munge['pid']}", f"--log-file={munge['log']}", f"--seed-file={munge['seed']}",
        )  # fmt: skip
        self.wait_for(munge["socket"].exists, GUARD)
        self._start("slurmctld", "-D", "-f", self.environment["SLURM_CONF"])
        self._start("slurmd", "-D", "-f", self.environment["SLURM_CONF"], "-N", self.host)
        self.wait_for(lambda: "idle" in self.ask("sinfo", "--noheader", "--format=%T"), GUARD)

    def _start(self, name, *arguments):
        # A daemon goes when we do, even if we are killed.
        daemon = shutil.which(name, path="/usr/sbin:/usr/bin:/sbin:/bin")
        command = ["setpriv", "--pdeathsig", "TERM", daemon, *arguments]
        with (self.folder / f"{name}.out").open("wb") as out:
            env = {**os.environ, **self.environment}
            self.daemons.append(subprocess.Popen(command, stdout=out, stderr=out, env=env))

    def __exit__(self, *_):
        with contextlib.suppress(subprocess.SubprocessError, OSError):
            self.ask("scancel", "--user", getpass.getuser())
            self.wait_for(lambda: not self.ask("squeue", "--noheader"), GUARD)
        for daemon in reversed(self.daemons):
            daemon.terminate()
        for daemon in reversed(self.daemons):
            try:
                daemon.wait(60)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()

    def ask(self, *command):
        """Run one of Slurm's commands; its output."""
        env = {**os.environ, **self.environment}
        return subprocess.run(command, env=env, capture_output=True, text=True, timeout=GUARD).stdout.strip()

    def wait_for(self, condition, seconds):
        """Wait until the condition holds, and fail with what the daemons said when it never does."""
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                logs = "\n".join(f"{p.name}:\n{tail(p)}" for p in sorted(self.folder.glob("*.log")))
                raise AssertionError(f"waited {seconds} s in vain\n{logs}")
            time.sleep(0.2)


def tail(path, lines=15):
    return "\n".join(Path(path).read_text(errors="replace").splitlines()[-lines:])
