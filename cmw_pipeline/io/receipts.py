"""Receipts of rendered tables, and whether they are current.

A table's path does not change with its content, so its presence does not say that it is up to date. Its
receipt does: it names the digest of the plan, the content of every input, and the hash of every file.
"""

import json
from pathlib import Path
from typing import Any

from cmw_pipeline.config.artefact import RESULTS, Artefact
from cmw_pipeline.config.contracts import Page
from cmw_pipeline.config.plain_files import plain
from cmw_pipeline.io.manifests import file_entry, recorded_content


def receipt_path(table: str) -> Path:
    """Where a table's receipt lies, relative to the project."""
    return Path(RESULTS, table + Page.RECEIPT.name)


def is_current(table: Artefact[Any], root: Path) -> bool:
    """Whether a table on disk is of this plan, of all its inputs as they are there now, and untouched."""
    path = root / receipt_path(table.name)
    try:
        receipt = json.loads(plain(path).read_text())
        same_plan = receipt["digest"] == table.digest
        return same_plan and _of_these_inputs(receipt, table, root) and _untouched(receipt, path.parent)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return False


def _of_these_inputs(receipt: dict[str, Any], table: Artefact[Any], root: Path) -> bool:
    inputs = receipt["inputs"]
    return inputs.keys() == table.inputs.keys() and all(
        recorded_content(source, root) == inputs[role] for role, source in table.inputs.items()
    )


def _untouched(receipt: dict[str, Any], folder: Path) -> bool:
    return all(file_entry(folder / name) == entry for name, entry in receipt["files"].items())
