"""A reason for Snakemake to make a page again that is there already: a table, an audit."""

import os
import time
from pathlib import Path
from typing import Any

from cmw_pipeline.config.artefact import RESULTS, Artefact
from cmw_pipeline.config.contracts import Page
from cmw_pipeline.config.pages import AuditPage
from cmw_pipeline.io.atomic import write_text
from cmw_pipeline.io.receipts import is_current

_FLAGS = Path(".snakemake", "outdated-pages")


def unless_current(page: Artefact[Any], root: Path = Path()) -> list[str]:
    """An input that makes Snakemake make the page again, unless the one on disk is current.

    Snakemake knows two reasons to run a rule whose output is there: its own records, which a fresh clone
    does not have, and an input that is newer. The flag is written now and the page dated before it, wherever
    the clock stood; its text is new each time, since Snakemake passes over an input of known content. Each
    flag has a folder of its own, since Snakemake lists a folder once and would miss a second flag.
    """
    ending = AuditPage.PAGE if page.stage == "audit" else Page.PAGE
    file = root / RESULTS / (page.name + ending.name)
    if not file.exists() or is_current(page, root):
        return []
    now, flag = time.time(), _FLAGS / page.name / "seen"
    write_text(root / flag, f"{page.name} is not current; seen at {time.time_ns()} ns\n")
    os.utime(file, (now - 60, now - 60))
    return [str(flag)]
