"""Whether a rendered table is the one that today's plan asks for."""

import json
from pathlib import Path

from cmw_pipeline.config.plan import RESULTS, Artefact


def receipt_path(table: str) -> str:
    """Where a table's receipt lies, relative to the project."""
    return f"{RESULTS}/{table}.manifest.json"


def stale_receipt(table: Artefact) -> list[str]:
    """A flag that is never there, where the table on disk was rendered from another plan; else nothing.

    A workflow rule that asks for the flag has to run again.
    """
    try:
        digest = json.loads(Path(receipt_path(table.name)).read_text())["digest"]
    except FileNotFoundError:
        digest = None if Path(RESULTS, f"{table.name}.md").exists() else table.digest
    except (OSError, ValueError, KeyError, TypeError):
        digest = None
    return [] if digest == table.digest else [f"{RESULTS}/.stale/{table.name}-{table.digest}"]
