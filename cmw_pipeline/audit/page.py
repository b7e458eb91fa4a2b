"""Stage ``audit``: an audit that the parameters ask for, ``results/audit/NAME.html`` and a folder beside it.

Like a table it has fixed names and a receipt, ``results/audit/NAME.manifest.json``, written last.
"""

from pathlib import Path

import torch

from cmw_pipeline.audit.make import audit_data
from cmw_pipeline.audit.planned import planned_data
from cmw_pipeline.audit.report import render
from cmw_pipeline.audit.run import Asked
from cmw_pipeline.config import Plan
from cmw_pipeline.config.artefact import RESULTS, Artefact
from cmw_pipeline.config.contracts import AuditRequest
from cmw_pipeline.config.pages import AuditPage
from cmw_pipeline.data.outside import lineage
from cmw_pipeline.io.atomic import remove_tree, write_text
from cmw_pipeline.io.lineage import leave_other_ground
from cmw_pipeline.io.manifests import exclusive
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
        ConfigError, IntegrityError: there is no such audit, or its data are missing, damaged or have changed.
    """
    artefact = plan.audit(name)
    base = root / RESULTS / artefact.name
    page = base.with_name(base.name + AuditPage.PAGE.name)
    with exclusive(artefact, root):
        line = lineage(root)
        inputs = line.open_inputs(artefact)
        if is_current(artefact, line):
            return page
        data = planned_data(plan, artefact.request.data, root)
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
            name=artefact.request.data,
        )
        write_text(page, render(found))
        files = [page, *sorted(file for file in base.rglob("*") if file.is_file())]
        write_text(root / artefact.manifest, receipt(artefact, inputs, files, root))
        remove_tree(side)
    return page


def _asked(artefact: Artefact[AuditRequest]) -> Asked:
    request = artefact.request
    return Asked(request.method, request.folds, request.seed, torch.device("cpu"))
