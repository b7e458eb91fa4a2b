"""What `cmw doctor` looks at: software, GPUs, disk, parameters, data, locks, the DVC remote."""

import contextlib
import importlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from shutil import disk_usage, which
from typing import Any

import psutil
from packaging.requirements import Requirement

from cmw_pipeline.config import Plan, load
from cmw_pipeline.config.artefact import PAGES, RESULTS, Artefact
from cmw_pipeline.errors import INSTALL, ConfigError, IntegrityError, SystemFault
from cmw_pipeline.io.lineage import Lineage
from cmw_pipeline.io.manifests import is_locked, is_stored, lock_path, open_stored
from cmw_pipeline.io.receipts import is_untouched, shows_what_is_there
from cmw_pipeline.runtime import devices
from cmw_pipeline.runtime.devices import devices_of, shares, visible_gpus
from cmw_pipeline.runtime.signals import runs

LEAST_FREE = 2_000_000_000
"""Bytes; a CIFAR dataset and a few runs of a large network."""


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at; ``exit_code`` is 0 where it is in order, else the fitting error's."""

    what: str
    remedy: str | None = None
    exit_code: int = 0


def examine(params: Path, line: Lineage) -> Iterator[Finding]:
    """Look at everything, in an order in which the first problem explains those behind it.

    Args:
        params: the parameter file.
        line: the artefacts of the project as they lie there.
    """
    root = line.root
    yield from _software()
    yield from _gpus()
    yield from _disk(root)
    try:
        plan = Plan(load(params))
        planned = plan.everything()
        yield Finding(f"{params}: {len(plan.params.tables)} tables, {len(planned)} artefacts")
    except ConfigError as error:
        yield Finding(error.message, error.hint or f"correct {params}", error.exit_code)
        return
    artefacts = [artefact for artefact in planned.values() if artefact.stage not in PAGES]
    there = [artefact for artefact in artefacts if is_stored(artefact, root)]
    yield from _hashes(there, root)
    yield from _stale(there, line)
    yield from _pages([artefact for artefact in planned.values() if artefact.stage in PAGES], line)
    yield from _in_hand(artefacts, root)
    yield Finding(f"{len(there)} of {len(artefacts)} artefacts are made")
    yield from _dvc(root)
    yield from _snakemake_locks(root)


def _software() -> Iterator[Finding]:
    wrong = []
    for text in metadata.requires("cmw-pipeline") or []:
        wanted = Requirement(text)
        if wanted.marker is None or wanted.marker.evaluate({"extra": "pipeline"}):
            found = version(wanted.name)
            if found is None or not wanted.specifier.contains(found, prereleases=True):
                needed = f"{wanted.name}{wanted.specifier}"
                wrong.append(f"{wanted.name} {found or 'is missing'}; needed is {needed}")
    remedy = f"install requirements.lock again, `make .venv/bin/cmw`, or {INSTALL}"
    yield from (Finding(text, remedy, SystemFault.exit_code) for text in wrong)
    named = ", ".join(f"{name} {version(name)}" for name in ("torch", "snakemake", "dvc"))
    if not wrong:
        yield Finding(f"cmw-pipeline {version('cmw-pipeline')}, {named}")


def version(package: str) -> str | None:
    """Of an installed package; None where it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _gpus() -> Iterator[Finding]:
    try:
        torch = importlib.import_module("torch")
    except (ImportError, OSError) as error:
        text = f"torch cannot be loaded: {error}"
        yield Finding(text, "install requirements.lock again: `make .venv/bin/cmw`", SystemFault.exit_code)
        return
    gpus = visible_gpus()
    if not gpus and "CUDA_VISIBLE_DEVICES" not in os.environ and which("nvidia-smi"):
        remedy = "run `nvidia-smi` and repair the driver; until then runs train on the CPU"
        yield Finding("nvidia-smi is there but lists no GPU", remedy, SystemFault.exit_code)
    elif not gpus:
        yield Finding("no GPU is visible: runs train on the CPU")
    elif not torch.cuda.is_available():
        built = f"is built for CUDA {torch.version.cuda}" if torch.version.cuda else "is built without CUDA"
        remedy = "install a torch that fits the driver, or set CUDA_VISIBLE_DEVICES= to train on the CPU"
        text = f"torch cannot use GPU {', '.join(gpus)}: it {built}"
        yield Finding(text, remedy, SystemFault.exit_code)
    else:
        yield from _leases(gpus)


def _leases(gpus: list[str]) -> Iterator[Finding]:
    try:
        spelt = devices_of(gpus)
        names = shares(list(spelt))
    except ConfigError as error:
        yield Finding(error.message, "set it to 1 or unset it", error.exit_code)
        return
    folders = list(devices.PLACE.glob(f"{devices.lease_prefix()}*"))
    held = {lock.stem for folder in folders for lock in folder.glob("*.lock") if is_locked(lock)}
    for name in names:
        state = "leased to a run" if devices.lease_file(name) in held else "free"
        share, _, gpu = name.rpartition("@")
        yield Finding(f"GPU {share and share + '@'}{spelt[gpu]}: {state}")


def _disk(root: Path) -> Iterator[Finding]:
    folder = root / RESULTS if (root / RESULTS).exists() else root
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        remedy = "make it a folder that you may write to"
        yield Finding(f"{folder}: nothing can be written there", remedy, SystemFault.exit_code)
        return
    free = disk_usage(folder).free
    text = f"{free / 1e9:.1f} GB of disk are free for {RESULTS}/"
    if free < LEAST_FREE:
        remedy = "free some: `cmw prune` says what no table needs; `dvc gc` thins out DVC's cache"
        yield Finding(text, remedy, SystemFault.exit_code)
    else:
        yield Finding(text)


def _hashes(stored: list[Artefact[Any]], root: Path) -> Iterator[Finding]:
    """Every byte of what is made against its manifest."""
    whole = 0
    for artefact in stored:
        try:
            open_stored(root / artefact.path)
            whole += 1
        except IntegrityError as error:
            yield Finding(error.message, error.hint, error.exit_code)
        except OSError as error:
            yield Finding(f"{artefact.path}: {error}", "see that it can be read", SystemFault.exit_code)
    yield Finding(f"{whole} artefacts are what their manifests say")


def _stale(stored: list[Artefact[Any]], line: Lineage) -> Iterator[Finding]:
    """What stands on data that have changed, by the first of each line that has to be made again."""
    found = {stale.artefact.path: stale for artefact in stored if (stale := line.stale(artefact))}
    for stale in found.values():
        yield Finding(stale.error.message, stale.error.hint, IntegrityError.exit_code)
    if not found:
        yield Finding(f"{len(stored)} artefacts are made of what lies there now")


def _pages(pages: list[Artefact[Any]], line: Lineage) -> Iterator[Finding]:
    """Tables and audits that were made: whether they are as they were, and show what is there."""
    there = [page for page in pages if (line.root / page.manifest).exists()]
    wrong = {page: words for page in there if (words := _page_fault(page, line))}
    for page, words in wrong.items():
        file = f"{RESULTS}/{page.name}.{'html' if page.stage == 'audit' else 'md'}"
        yield Finding(f"{file}: {words}", f"`snakemake {file}` makes it again", IntegrityError.exit_code)
    if not wrong:
        yield Finding(f"{len(there)} tables and audits are what their receipts say")


def _page_fault(page: Artefact[Any], line: Lineage) -> str | None:
    if not is_untouched(page, line.root):
        return "was edited or damaged after it was made"
    gaps = any(line.gaps(source) for source in page.inputs.values())
    return None if gaps or shows_what_is_there(page, line) else "shows other data or runs than are there now"


def _in_hand(artefacts: list[Artefact[Any]], root: Path) -> Iterator[Finding]:
    for artefact in artefacts:
        stage, digest, path = artefact.stage, artefact.digest, artefact.path
        left = root / RESULTS / "checkpoints" / f"{stage}-{digest}"
        if is_locked(lock_path(stage, digest, root)):
            yield Finding(f"{path}: is being made at this moment")
        elif any(left.glob("step-*")):
            yield Finding(f"{path}: was stopped and has a checkpoint", f"`cmw {stage} {path}` continues it")


def _dvc(root: Path) -> Iterator[Finding]:
    if not (root / ".dvc").is_dir():
        yield Finding("DVC is not set up here", "`dvc init`, if results are to be shared or kept")
        return
    try:
        config = importlib.import_module("dvc.config").Config(dvc_dir=str(root / ".dvc"))
        name = config["core"].get("remote")
        url = str(config["remote"][name]["url"]) if name else ""
    except Exception as error:  # whatever is wrong in a configuration file, DVC would stumble over it too
        yield Finding(f"DVC's configuration: {error}", "correct .dvc/config", ConfigError.exit_code)
        return
    if not name:
        yield Finding("DVC has no default remote", "`dvc remote add -d NAME URL` makes `dvc push` work")
    elif "://" not in url and not Path(url).is_dir():
        remedy = "mount it; where it is new, the first `dvc push` makes it"
        yield Finding(f"DVC remote {name}: there is no folder {url}", remedy, SystemFault.exit_code)
    else:
        yield Finding(f"DVC remote {name}: {url}")
    dead = sorted(pid for pid in _rwlock_owners(root) if not psutil.pid_exists(pid))
    if dead:
        pids = ", ".join(map(str, dead))
        yield Finding(f"DVC's lock names processes that are dead: {pids}", "the next dvc command clears it")


def _rwlock_owners(root: Path) -> set[int]:
    """Process ids in DVC's lock file: {"write": {path: {"pid": ...}}, "read": {path: [{"pid": ...}]}}."""
    with contextlib.suppress(OSError, ValueError, AttributeError, KeyError, TypeError, RecursionError):
        locks = json.loads((root / ".dvc/tmp/rwlock").read_text())
        readers = [owner for owners in locks.get("read", {}).values() for owner in owners]
        return {int(owner["pid"]) for owner in [*readers, *locks.get("write", {}).values()]}
    return set()


def _snakemake_locks(root: Path) -> Iterator[Finding]:
    """Our profile takes none; a Snakemake that was started with another profile and killed leaves some."""
    locks = root / ".snakemake" / "locks"
    if not locks.is_dir() or not any(locks.iterdir()):
        return
    if _runs_here("snakemake", root):
        yield Finding("a Snakemake is at work here and holds its own lock")
    else:
        remedy = "`snakemake --unlock`"
        yield Finding(f"{locks}: a lock of a Snakemake that is dead", remedy, SystemFault.exit_code)


def _runs_here(program: str, root: Path) -> bool:
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if runs(process, program) and Path(process.cwd()).resolve() == root.resolve():
                return True
    return False
