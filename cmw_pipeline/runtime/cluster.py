"""What `cmw doctor --profile NAME` looks at: what a profile needs before anything is submitted."""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from shutil import which
from typing import Any

import psutil

from cmw_pipeline.config.artefact import RESULTS
from cmw_pipeline.config.document import read_yaml
from cmw_pipeline.errors import ConfigError, SystemFault
from cmw_pipeline.runtime.doctor import Finding, version

_PROFILES = Path("workflow", "profiles")
_SUBMITS = {"slurm": "sbatch", "lsf": "bsub"}
"""Each executor's command; that of cluster-generic is in the profile."""
_LOCAL = ("ext2", "ext3", "ext4", "xfs", "btrfs", "tmpfs", "overlay", "zfs")
"""File systems that lie on one machine, unless that exports them."""
_PATIENCE = 20
_BAD = SystemFault.exit_code


def examine_profile(name: str, root: Path) -> Iterator[Finding]:
    """Look at plugin, commands, partition, account and folder, in the order in which a submission needs them.

    Args:
        name: of a folder of workflow/profiles, or a path of one.
        root: the project folder.

    Raises:
        ConfigError: there is no such profile.
    """
    settings = _settings(name, root)
    executor = str(settings.get("executor", ""))
    if not executor:
        yield Finding(f"profile {name}: it names no executor; jobs run on this machine")
        return
    plugin = f"snakemake-executor-plugin-{executor}"
    found = version(plugin)
    if found is None:
        yield Finding(f"{plugin} is not installed", "`pip install 'cmw-pipeline[cluster]'`", _BAD)
    else:
        yield Finding(f"{plugin} {found}")
    generic = str(settings.get("cluster-generic-submit-cmd", "")).split() or [""]
    command = _SUBMITS.get(executor, generic[0])
    if which(command) is None and not (root / command).is_file():
        remedy = "start from a login node of the cluster, or load the module that brings it"
        yield Finding(f"{command}: there is no such command here", remedy, _BAD)
    elif executor == "slurm":
        yield from _slurm(settings)
    yield _shared(root)


def _settings(name: str, root: Path) -> dict[str, Any]:
    for folder in (root / _PROFILES / name, root / name):
        if (folder / "config.yaml").is_file():
            return dict(read_yaml(folder / "config.yaml"))
    known = ", ".join(sorted(file.parent.name for file in (root / _PROFILES).glob("*/config.yaml")))
    raise ConfigError(
        f"there is no profile {name!r}", f"choose one of {known}" if known else "cd to the project"
    )


def _slurm(settings: dict[str, Any]) -> Iterator[Finding]:
    code, said = _answer("sinfo", "--noheader", "--format=%P")
    if code:
        yield Finding(f"Slurm does not answer: {said}", "ask whether its controller is up", _BAD)
        return
    asked = settings.get("default-resources") or {}
    yield _partition(said.split(), str(asked.get("slurm_partition", "")).strip("'\""), settings)
    account = str(asked.get("slurm_account", "")).strip("'\"")
    if account or settings.get("slurm-no-account"):
        yield Finding(f"account: {account or 'none is sent'}")
    else:
        yield Finding(
            "no slurm_account: jobs go to your default one", "docs/cluster.md says where to name one"
        )
    if settings.get("slurm-status-command") != "squeue":
        yield _accounting()


def _partition(offered: list[str], wanted: str, settings: dict[str, Any]) -> Finding:
    names = [name.rstrip("*") for name in offered]
    if wanted and wanted not in names:
        remedy = f"the cluster has {', '.join(names)}"
        return Finding(f"partition {wanted}: there is none of this name", remedy, ConfigError.exit_code)
    if wanted or "slurm-partition-config" in settings:
        return Finding(f"partition: {wanted or settings['slurm-partition-config']}")
    default = next((name.rstrip("*") for name in offered if name.endswith("*")), None)
    if default is None:
        remedy = f"name one, slurm_partition under default-resources: {', '.join(names)}"
        return Finding("no slurm_partition, and the cluster has no default", remedy, ConfigError.exit_code)
    return Finding(f"partition: {default}, the cluster's default")


def _accounting() -> Finding:
    code, said = _answer("sacct", "--noheader", "--starttime=now")
    if code:
        remedy = "`slurm-status-command: squeue` and `slurm-no-account: true` in a profile of your own"
        return Finding(f"sacct, which the plugin asks how jobs are: {said}", remedy, _BAD)
    return Finding("sacct answers")


def _shared(root: Path) -> Finding:
    """Whether other machines can see the project: by its file system, since they cannot be asked here."""
    place = (root / RESULTS if (root / RESULTS).exists() else root).resolve()
    mounts = [m for m in psutil.disk_partitions(all=True) if place.is_relative_to(m.mountpoint)]
    kind = max(mounts, key=lambda mount: len(mount.mountpoint)).fstype if mounts else "unknown"
    if kind in _LOCAL:
        remedy = "see that every node has this folder under the same path"
        return Finding(f"{place} lies on {kind}, which is a disk of this machine", remedy)
    return Finding(f"{place} lies on {kind}")


def _answer(*command: str) -> tuple[int, str]:
    """Exit code and what was said, of an error its last line; 1 where there is no command or no answer."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired) as error:
        return 1, f"{command[0]}: {error.strerror if isinstance(error, OSError) else 'no answer'}"
    if done.returncode == 0:
        return 0, done.stdout.strip()
    return done.returncode, (done.stderr.strip().splitlines() or ["no reason given"])[-1]
