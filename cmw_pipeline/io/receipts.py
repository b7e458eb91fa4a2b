"""Receipts of pages, which are tables and audits, and whether they are current.

A page's path does not change with its content, so its presence does not say that it is up to date. Its
receipt does: it names the digest of the plan, the content of every input, and the hash of every file.
"""

import json
from pathlib import Path
from typing import Any

from cmw_pipeline.config.artefact import Artefact
from cmw_pipeline.config.plain_files import plain
from cmw_pipeline.io.atomic import system_faults
from cmw_pipeline.io.manifests import FORMAT, Stored, file_entry, recorded_content


def receipt(page: Artefact[Any], inputs: dict[str, Stored], files: list[Path], root: Path) -> str:
    """The text of a page's receipt, of the files as they are now."""
    folder = (root / page.manifest).parent
    body = {
        "format": FORMAT,
        page.stage: page.name,
        "digest": page.digest,
        "inputs": {role: stored.content for role, stored in inputs.items()},
        "files": {str(file.relative_to(folder)): file_entry(file) for file in files},
    }
    return json.dumps(body, indent=1, sort_keys=True) + "\n"


def withdraw(page: Artefact[Any], root: Path) -> None:
    """Remove a page's receipt before its files are written: none stands beside files it does not describe."""
    path = root / page.manifest
    with system_faults(path):
        path.unlink(missing_ok=True)


def is_current(page: Artefact[Any], root: Path) -> bool:
    """Whether a page on disk is of this plan, of all its inputs as they are there now, and untouched."""
    path = root / page.manifest
    try:
        read = json.loads(plain(path).read_text())
        same_plan = read["digest"] == page.digest
        return same_plan and _of_these_inputs(read, page, root) and _untouched(read, path.parent)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return False


def _of_these_inputs(read: dict[str, Any], page: Artefact[Any], root: Path) -> bool:
    inputs = read["inputs"]
    return inputs.keys() == page.inputs.keys() and all(
        recorded_content(source, root) == inputs[role] for role, source in page.inputs.items()
    )


def _untouched(read: dict[str, Any], folder: Path) -> bool:
    return all(file_entry(folder / name) == entry for name, entry in read["files"].items())
