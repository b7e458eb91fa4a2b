"""Receipts of rendered tables, and whether they are of today's plan.

A table's path does not change with its content, so its presence does not say that it is up to date. Its
receipt does: it names the digest of the plan that it was rendered from.
"""

import json
import time
from pathlib import Path

from cmw_pipeline.config.plan import RESULTS, Artefact
from cmw_pipeline.io.atomic import write_text

_FLAG = Path(".snakemake", "another-plan")


def receipt_path(table: str) -> Path:
    """Where a table's receipt lies, relative to the project."""
    return Path(RESULTS, f"{table}.manifest.json")


def unless_current(table: Artefact) -> list[str]:
    """An input that makes Snakemake render the table again, unless the one on disk is of today's plan.

    Snakemake knows two reasons to run a rule whose output is there: its own records, which a fresh clone
    does not have, and an input that is newer. The flag is written
    now, so it is newer, and its text is new each time, since Snakemake passes over an input of known content.
    """
    if not Path(RESULTS, f"{table.name}.md").exists():
        return []
    try:
        digest = json.loads(receipt_path(table.name).read_text())["digest"]
    except (OSError, ValueError, KeyError, TypeError):
        digest = None
    if digest == table.digest:
        return []
    write_text(_FLAG, f"{table.name} was rendered from another plan; seen at {time.time_ns()} ns\n")
    return [str(_FLAG)]
