"""What artefacts are made from that is no artefact: image files, which stay where the user has them."""

from pathlib import Path
from typing import Any

from cmw_pipeline.config.artefact import Artefact
from cmw_pipeline.io.lineage import Lineage, Notes


def lineage(root: Path) -> Lineage:
    """The artefacts of a project, to be compared with what they were made from."""
    return Lineage(root, changed_outside)


def changed_outside(artefact: Artefact[Any], path: Path, notes: Notes) -> str | None:
    """What has changed in the folder of image files that an artefact lists; None where nothing has.

    A folder that is not there is no change: who reads its files says so.
    """
    if artefact.stage != "download" or "root" not in notes or not Path(notes["root"]).is_dir():
        return None
    from cmw_pipeline.data.layouts import folder_change  # loads pandas; planning has no other use for it

    change = folder_change(path, artefact.request.source, notes)
    return change and f"the folder {notes['root']} has changed since it was read: {change}"
