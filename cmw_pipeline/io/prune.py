"""What lies in ``results/`` and no plan needs: found, measured, and removed on request."""

import os
import re
import shutil
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cmw_pipeline.config.artefact import MANIFEST, PAGES, RESULTS, STAGE_VERSIONS, Artefact
from cmw_pipeline.errors import SystemFault
from cmw_pipeline.io.atomic import system_faults
from cmw_pipeline.io.manifests import is_locked, lock_path

_OURS = re.compile(r"(?P<draft>\.)?.+-(?P<digest>[0-9a-f]{10})(?(draft)\..+\.tmp)")
"""The folder of an artefact, or of its draft."""


@dataclass(frozen=True)
class Excess:
    """Something that no plan needs: ``path``, and the ``bytes`` that its removal frees."""

    path: Path
    stage: str
    digest: str
    bytes: int


def find_excess(needed: Collection[Artefact[Any]], root: Path) -> list[Excess]:
    """What can go: artefacts, and drafts, checkpoints and logs of artefacts, that are not needed.

    Checkpoints of a finished run are not needed either. Links are not followed; downloads, tables and
    whatever else lies in ``results/`` are not looked at.

    Args:
        needed: the artefacts to keep, finished or not.
        root: the project folder.
    """
    kept = {(artefact.stage, artefact.digest): root / artefact.manifest for artefact in needed}
    found: list[Excess] = []
    for stage in STAGE_VERSIONS:
        for path, digest in [] if stage in PAGES else _made(root / RESULTS / stage):
            manifest = kept.get((stage, digest))
            if manifest is None or (not path.name.startswith(".") and manifest.parent != path):
                found.append(Excess(path, stage, digest, _size(path)))
        for path, digest in _of_stage(root, stage):
            manifest = kept.get((stage, digest))
            if manifest is None or (path.is_dir() and manifest.exists()):
                found.append(Excess(path, stage, digest, _size(path)))
    return found


def remove_excess(excess: list[Excess], root: Path) -> None:
    """Remove what was found; folders that become empty go too, those of the stages stay.

    Raises:
        SystemFault: one of them is being made at this moment, or cannot be removed. The former is seen before
            anything is removed.
    """
    for item in excess:
        if is_locked(lock_path(item.stage, item.digest, root)):
            raise SystemFault(
                f"{item.path}: is being made at this moment", "nothing was removed; try again later"
            )
    for item in excess:
        with system_faults(item.path):
            _remove(item.path)
            for parent in item.path.parents:
                if parent.parent == root / RESULTS or any(parent.iterdir()):
                    break
                parent.rmdir()


def _remove(path: Path) -> None:
    if not path.is_dir():
        path.unlink()
        return
    if (path / MANIFEST).exists() and not path.name.startswith("."):
        draft = path.with_name(f".{path.name}.pruned.tmp")  # so that no artefact is ever half there
        path.rename(draft)
        path = draft
    shutil.rmtree(path)


def _made(folder: Path) -> Iterator[tuple[Path, str]]:
    """(path, digest) of artefacts and drafts below a stage's folder."""
    for path in _below(folder):
        match = _OURS.fullmatch(path.name)
        if match and (match["draft"] or (path / MANIFEST).is_file()):
            yield path, match["digest"]
        else:
            yield from _made(path)


def _of_stage(root: Path, stage: str) -> Iterator[tuple[Path, str]]:
    """(path, digest) of the folders of checkpoints and of the logs of a stage."""
    for path in _below(root / RESULTS / "checkpoints"):
        if match := re.fullmatch(rf"{stage}-([0-9a-f]{{10}})", path.name):
            yield path, match[1]
    logs = root / RESULTS / "logs" / stage
    for path in [] if logs.is_symlink() else sorted(logs.rglob("*.log")):
        if match := re.fullmatch(r".+-([0-9a-f]{10})", path.stem):
            yield path, match[1]


def _below(folder: Path) -> list[Path]:
    """The folders in a folder, in order, without links; none where the folder is a link itself."""
    if folder.is_symlink() or not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.is_symlink())


def _size(path: Path) -> int:
    """Bytes that removing it frees: none for links, and for files that have another name elsewhere."""
    files = [path] if path.is_file() else [Path(at, name) for at, _, names in os.walk(path) for name in names]
    sizes = [file.lstat() for file in files if not file.is_symlink()]
    return sum(size.st_size for size in sizes if size.st_nlink == 1)
