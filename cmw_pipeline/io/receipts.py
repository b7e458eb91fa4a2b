"""Receipts of rendered tables, and whether they are current.

A table's path does not change with its content, so its presence does not say that it is up to date. Its
receipt does: it names the digest of the plan, the content of every input, and the hash of every file.
"""

import json
import os
import time
from pathlib import Path
from typing import Any

from cmw_pipeline.config.artefact import RESULTS, Artefact
from cmw_pipeline.config.contracts import Page
from cmw_pipeline.io.atomic import write_text
from cmw_pipeline.io.manifests import file_entry, recorded_content

_FLAGS = Path(".snakemake", "not-current")


def receipt_path(table: str) -> Path:
    """Where a table's receipt lies, relative to the project."""
    return Path(RESULTS, table + Page.RECEIPT.name)


def unless_current(table: Artefact[Any], root: Path = Path()) -> list[str]:
    """An input that makes Snakemake render the table again, unless the one on disk is current.

    Snakemake knows two reasons to run a rule whose output is there: its own records, which a fresh clone
    does not have, and an input that is newer. The flag is written now and the page dated before it, wherever
    the clock stood; its text is new each time, since Snakemake passes over an input of known content.
    """
    page = root / RESULTS / (table.name + Page.PAGE.name)
    if not page.exists() or is_current(table, root):
        return []
    now = time.time()
    write_text(root / _FLAGS / table.name, f"{table.name} is not current; seen at {time.time_ns()} ns\n")
    os.utime(page, (now - 60, now - 60))
    return [str(_FLAGS / table.name)]


def is_current(table: Artefact[Any], root: Path) -> bool:
    """Whether a table on disk is of this plan, of all its inputs as they are there now, and untouched."""
    path = root / receipt_path(table.name)
    try:
        receipt = json.loads(path.read_text())
        same_plan = receipt["digest"] == table.digest
        return same_plan and _of_these_inputs(receipt, table, root) and _untouched(receipt, path.parent)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def _of_these_inputs(receipt: dict[str, Any], table: Artefact[Any], root: Path) -> bool:
    inputs = receipt["inputs"]
    return inputs.keys() == table.inputs.keys() and all(
        recorded_content(source, root) == inputs[role] for role, source in table.inputs.items()
    )


def _untouched(receipt: dict[str, Any], folder: Path) -> bool:
    return all(file_entry(folder / name) == entry for name, entry in receipt["files"].items())
