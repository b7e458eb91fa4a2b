"""Receipts of pages, which are tables and audits, and whether they are current.

A page's path does not change with its content, so its presence does not say that it is up to date. Its
receipt does: it names the digest of the plan, the content of every input, and the hash of every file, its own
and those of the user's that it was made from.
"""

import json
from pathlib import Path
from typing import Any

from cmw_pipeline.config.artefact import Artefact
from cmw_pipeline.config.plain_files import plain
from cmw_pipeline.io.atomic import system_faults
from cmw_pipeline.io.lineage import Lineage
from cmw_pipeline.io.manifests import FORMAT, Stored, file_entry

_DICTS = ("inputs", "files", "read")


def receipt(
    page: Artefact[Any],
    inputs: dict[str, Stored],
    files: list[Path],
    root: Path,
    read: dict[str, Any] | None = None,
) -> str:
    """The text of a page's receipt, of the files as they are now.

    Args:
        page: the page.
        inputs: the artefacts that it was made from.
        files: what it left.
        root: the project folder.
        read: the user's files that it was made from, by their paths from the root, as :func:`file_entry` saw
            them before they were read.
    """
    folder = (root / page.manifest).parent
    body = {
        "format": FORMAT,
        page.stage: page.name,
        "digest": page.digest,
        "inputs": {role: stored.content for role, stored in inputs.items()},
        "files": {str(file.relative_to(folder)): file_entry(file) for file in files},
    } | ({"read": read} if read else {})
    return json.dumps(body, indent=1, sort_keys=True) + "\n"


def withdraw(page: Artefact[Any], root: Path) -> None:
    """Remove a page's receipt before its files are written: none stands beside files it does not describe."""
    path = root / page.manifest
    with system_faults(path):
        path.unlink(missing_ok=True)


def is_current(page: Artefact[Any], line: Lineage) -> bool:
    """Whether a page on disk is of this plan, of its whole line as it lies there now, and untouched."""
    read = _read(page, line.root)
    if read is None or read["digest"] != page.digest:
        return False
    whole = not any(line.gaps(source) or line.stale(source) for source in page.inputs.values())
    return whole and shows_what_is_there(page, line) and is_untouched(page, line.root)


def shows_what_is_there(page: Artefact[Any], line: Lineage) -> bool:
    """Whether what a page was made from is what lies there now."""
    read = _read(page, line.root)
    now = {role: line.content(source) for role, source in page.inputs.items()}
    return read is not None and read["inputs"] == now and _are(read["read"], line.root)


def is_untouched(page: Artefact[Any], root: Path) -> bool:
    """Whether the files of a page are those that its receipt names."""
    read = _read(page, root)
    return read is not None and _are(read["files"], (root / page.manifest).parent)


def _are(entries: dict[str, Any], folder: Path) -> bool:
    try:
        return all(file_entry(folder / name) == entry for name, entry in entries.items())
    except OSError:
        return False


def _read(page: Artefact[Any], root: Path) -> dict[str, Any] | None:
    """The receipt of a page; None where there is none, or something else in its place."""
    try:
        read = {"read": {}} | json.loads(plain(root / page.manifest).read_text())
        whole = isinstance(read["digest"], str) and all(isinstance(read[key], dict) for key in _DICTS)
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return read if whole else None
