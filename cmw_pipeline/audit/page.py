"""Stage ``audit``: an audit that the parameters ask for, ``results/audit/NAME.html`` and a folder beside it.

Like a table it has fixed names and a receipt, ``results/audit/NAME.manifest.json``, written last.
"""

from pathlib import Path
from typing import Any

import torch

from cmw_pipeline.audit.make import audit_data
from cmw_pipeline.audit.planned import planned_data
from cmw_pipeline.audit.report import render
from cmw_pipeline.audit.review import Review, read_review, reviewed
from cmw_pipeline.audit.run import Asked
from cmw_pipeline.config import Plan
from cmw_pipeline.config.artefact import RESULTS, Artefact
from cmw_pipeline.config.contracts import AuditRequest
from cmw_pipeline.config.pages import AuditPage
from cmw_pipeline.data.outside import lineage
from cmw_pipeline.data.own import OwnData
from cmw_pipeline.io.atomic import remove_tree, write_text
from cmw_pipeline.io.lineage import leave_other_ground
from cmw_pipeline.io.manifests import exclusive, file_entry
from cmw_pipeline.io.receipts import is_current, receipt, withdraw
from cmw_pipeline.runtime.signals import StopRequest


def make_page(plan: Plan, name: str, root: Path, stop: StopRequest, workers: int = 0) -> Path:
    """Make the audit of this name, unless there is one of these parameters and of the data as they are now.

    Args:
        plan: of the parameters.
        name: of the section ``audits``.
        root: the project folder.
        stop: asks to stop; the same call continues.
        workers: processes that decode pictures.

    Returns:
        The report.

    Raises:
        Preempted: ``stop`` was set.
        ConfigError, IntegrityError: there is no such audit, or its data are missing, damaged or have changed;
            or its review is missing, or of other data.
    """
    artefact = plan.audit(name)
    base = root / RESULTS / artefact.name
    page = base.with_name(base.name + AuditPage.PAGE.name)
    with exclusive(artefact, root):
        line = lineage(root)
        inputs = line.open_inputs(artefact)
        if is_current(artefact, line):
            return page
        data, review, read = _data(plan, artefact.request, root)
        withdraw(artefact, root)
        remove_tree(base)
        side = root / RESULTS / "checkpoints" / f"audit-{artefact.digest}"
        leave_other_ground(side, inputs)
        found = audit_data(
            data,
            _asked(artefact),
            base,
            side,
            stop,
            backbone=artefact.request.backbone,
            workers=workers,
            review=review,
            name=artefact.request.data,
        )
        write_text(page, render(found))
        files = [page, *sorted(file for file in base.rglob("*") if file.is_file())]
        write_text(root / artefact.manifest, receipt(artefact, inputs, files, root, read))
        remove_tree(side)
    return page


def _data(
    plan: Plan, request: AuditRequest, root: Path
) -> tuple[OwnData, Review | None, dict[str, dict[str, Any]]]:
    """The samples with the labels that a review gave, the review, and its file's entry for the receipt."""
    data = planned_data(plan, request.data, root)
    if request.review is None:
        return data, None, {}
    file = root / request.review
    read = {request.review: file_entry(file)} if file.is_file() else {}
    review = read_review(file, data)
    return reviewed(data, review), review, read


def _asked(artefact: Artefact[AuditRequest]) -> Asked:
    request = artefact.request
    return Asked(request.method, request.folds, request.seed, torch.device("cpu"))
