"""Artefacts on disk: a directory, and a manifest written last. No manifest, no artefact.

``manifest.json`` says what was asked (stage, name, parameters), what was read (each input's content),
what was written (sha256 and size of each file), with which versions, and what it cost. Whether what was read
still lies there is the business of :mod:`cmw_pipeline.io.lineage`.
"""

import contextlib
import functools
import hashlib
import json
import logging
import platform
import resource
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from cmw_pipeline.config.artefact import MANIFEST, RESULTS, Artefact
from cmw_pipeline.config.contracts import ASIDE, Raw
from cmw_pipeline.config.plain_files import plain
from cmw_pipeline.errors import IntegrityError
from cmw_pipeline.io.atomic import atomic_dir, remove_tree, system_faults

FORMAT = 1
"""The note that says what attempts before this one took."""
_REMAKE = "remove {} and run the same command again, or fetch it again with `dvc fetch`"
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Stored:
    """An artefact that is on disk and whose files are what its manifest says."""

    path: Path
    manifest: dict[str, Any] = field(hash=False)

    @property
    def content(self) -> str:
        """sha256 over the names and hashes of its files: equal content, equal value."""
        return content(self.manifest)

    @property
    def result(self) -> str:
        """The same without files that tell of the making, in which two makings of one thing differ."""
        return result(self.manifest)

    @property
    def verified(self) -> bool:
        """False where it goes back to raw data whose hashes are not the published ones."""
        return bool(self.manifest["notes"].get("verified", True))


@dataclass
class Draft:
    """An artefact in the making: fill ``path``, leave ``notes`` and what it cost besides this process."""

    path: Path
    notes: dict[str, Any] = field(default_factory=dict)
    cost: dict[str, float] = field(default_factory=dict)
    """``seconds``: those of earlier attempts; others are kept as they are."""


def is_stored(artefact: Artefact[Any], root: Path) -> bool:
    """Whether the artefact is on disk, by its manifest alone."""
    return (root / artefact.manifest).is_file()


def content(manifest: dict[str, Any]) -> str:
    """sha256 over the names and hashes of an artefact's files; where a user's folder is does not count."""
    return _hash(
        {name: entry["sha256"] for name, entry in manifest["files"].items() if name != Raw.FOLDER.name}
    )


def result(manifest: dict[str, Any]) -> str:
    """The same over those that something may be made from."""
    return _hash({name: entry["sha256"] for name, entry in manifest["files"].items() if name not in ASIDE})


def _hash(body: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def lock_path(stage: str, digest: str, root: Path) -> Path:
    """The file that is locked while the artefact is made."""
    return root / RESULTS / ".locks" / f"{stage}-{digest}.lock"


def is_locked(lock: Path) -> bool:
    """Whether a living process holds this lock file; a file that is not ours to open counts as held."""
    try:
        if lock.exists():
            FileLock(lock).acquire(timeout=0).lock.release()
    except (Timeout, OSError):
        return True
    return False


@contextlib.contextmanager
def exclusive(artefact: Artefact[Any], root: Path) -> Iterator[None]:
    """Hold the artefact's lock, so that two processes never make the same one at once.

    The kernel releases the lock when the process dies.
    """
    lock = lock_path(artefact.stage, artefact.digest, root)
    with system_faults(lock):
        lock.parent.mkdir(parents=True, exist_ok=True)
        held = FileLock(lock)
        try:
            held.acquire(timeout=0)
        except Timeout:
            log.info("%s is being made by another process: waiting", artefact.path)
            held.acquire()
    try:
        yield
    finally:
        held.release()


@contextlib.contextmanager
def publish(artefact: Artefact[Any], inputs: dict[str, Stored], root: Path) -> Iterator[Draft]:
    """Make an artefact: a draft directory that gets its manifest and its final name at the end.

    An input that goes back to unverified raw data makes the output unverified too.
    """
    started = time.perf_counter()
    for left in (root / artefact.path).parent.glob(f".{artefact.path.name}.*.tmp"):
        remove_tree(left)  # by a process that was killed: we hold the lock
    with atomic_dir(root / artefact.path) as path:
        draft = Draft(path)
        yield draft
        if not all(stored.verified for stored in inputs.values()):
            draft.notes["verified"] = False
        names = sorted(str(f.relative_to(path)) for f in path.rglob("*") if f.is_file())
        manifest = {
            "format": FORMAT,
            "stage": artefact.stage,
            "name": artefact.name,
            "digest": artefact.digest,
            "params": artefact.request.whole,
            "inputs": {
                role: {
                    "path": str(artefact.inputs[role].path),
                    "content": stored.content,
                    "result": stored.result,
                }
                for role, stored in inputs.items()
            },
            "files": {name: file_entry(path / name) for name in names},
            "notes": draft.notes,
            "versions": _versions(),
            "cost": draft.cost
            | {
                "seconds": round(draft.cost.get("seconds", 0.0) + time.perf_counter() - started, 3),
                "peak_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
            },
        }
        (path / MANIFEST).write_text(json.dumps(sealed(manifest), indent=1, sort_keys=True) + "\n")


def file_entry(path: Path) -> dict[str, Any]:
    """Hash and size of a file."""
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return {"sha256": digest, "bytes": path.stat().st_size}


def open_stored(path: Path) -> Stored:
    """Read an artefact's manifest and check every file against it.

    Raises:
        IntegrityError: no manifest, a manifest of another kind, or a file that is missing or changed.
    """
    manifest = read_manifest(path)
    for name, entry in manifest["files"].items():
        _verify(path / name, entry)
    return Stored(path, manifest)


def read_manifest(path: Path) -> dict[str, Any]:
    """The manifest of the artefact in a folder; the other files are not looked at.

    Raises:
        IntegrityError: there is none, or it is of another kind, or its text is not what was written.
    """
    file = path / MANIFEST
    try:
        manifest = json.loads(plain(file).read_text())
    except FileNotFoundError:
        raise IntegrityError(f"{path}: there is no finished artefact here", "make it first") from None
    except (OSError, ValueError, RecursionError) as error:
        raise IntegrityError(f"{file}: not a manifest: {error}") from None
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        found = manifest.get("format") if isinstance(manifest, dict) else type(manifest).__name__
        raise IntegrityError(f"{file}: manifest format {found}; this version reads {FORMAT}")
    if manifest != sealed(manifest):
        raise IntegrityError(f"{file}: its text is not what was written", _REMAKE.format(path))
    return manifest


def sealed(manifest: dict[str, Any]) -> dict[str, Any]:
    """The manifest with the sha256 of all its other entries."""
    body = {key: value for key, value in manifest.items() if key != "sha256"}
    return body | {"sha256": _hash(body)}


def _verify(file: Path, entry: dict[str, Any]) -> None:
    hint = _REMAKE.format(file.parent)
    if not file.is_file():
        raise IntegrityError(f"{file}: missing, though its manifest lists it", hint)
    found = file_entry(file)
    for key in ("bytes", "sha256"):
        if found[key] != entry[key]:
            raise IntegrityError(f"{file}: {key} is {found[key]}, its manifest says {entry[key]}", hint)


@functools.cache
def _versions() -> dict[str, str]:
    packages = ["cmw-pipeline", "numpy", "pyarrow", "torch", "scikit-learn"]
    return {"python": platform.python_version()} | {name: _version(name) for name in packages}


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"
