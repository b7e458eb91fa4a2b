"""What every stage is: a pure function from verified inputs to the files of one artefact."""

import logging
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic

from cmw_pipeline.config.artefact import Artefact, Asked
from cmw_pipeline.config.contracts import TrainRequest
from cmw_pipeline.data.outside import lineage
from cmw_pipeline.io.atomic import remove_tree
from cmw_pipeline.io.lineage import leave_other_ground
from cmw_pipeline.io.manifests import Stored, exclusive, is_stored, publish, read_manifest
from cmw_pipeline.runtime.team import SOLO, Team

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job(Generic[Asked]):
    """One artefact to make: ``request`` asks, ``inputs`` are verified, ``out`` is filled.

    ``notes`` go into the manifest, ``cost`` beside what this process costs. ``side`` is a directory of no
    rule's, kept between attempts, for checkpoints. ``place`` is where the artefact comes to lie; there may be
    one from before.
    """

    artefact: Artefact[Asked]
    inputs: dict[str, Stored]
    out: Path
    notes: dict[str, Any]
    cost: dict[str, float]
    side: Path
    place: Path

    @property
    def request(self) -> Asked:
        """All that is asked."""
        return self.artefact.request


def make(
    artefact: Artefact[Asked],
    run: Callable[[Job[Asked]], None],
    root: Path,
    team: Team = SOLO,
    *,
    again: bool = False,
) -> bool:
    """Make an artefact unless it is there already and what it was made from has not changed since.

    Of a team of processes all run the stage, and only the leader's files are kept.

    Args:
        artefact: what is planned.
        run: the stage's function.
        root: the project folder.
        team: the processes that call this together.
        again: make it in any case.

    Returns:
        True where it was made now, False where it was there.

    Raises:
        IntegrityError: an input is missing, is not what its manifest says, or is stale itself.
    """
    place = root / artefact.path
    side = root / "results" / "checkpoints" / f"{artefact.stage}-{artefact.digest}"
    if not team.leads:
        if team.agree(0):
            return False
        with tempfile.TemporaryDirectory() as out:
            run(Job(artefact, lineage(root).open_inputs(artefact), Path(out), {}, {}, side, place))
        return True
    with exclusive(artefact, root):
        line = lineage(root)
        there = is_stored(artefact, root) and bool(read_manifest(place))
        stale = line.stale(artefact) if there else None
        if team.agree(there and stale is None and not again):
            remove_tree(side)  # left by a process that was killed after it had published
            return False
        inputs = line.open_inputs(artefact)
        if stale is not None:
            log.info("%s is made again: %s", artefact.path, stale.why)
        if isinstance(artefact.request, TrainRequest):
            leave_other_ground(side, inputs)
        with publish(artefact, inputs, root) as draft:
            run(Job(artefact, inputs, draft.path, draft.notes, draft.cost, side, place))
        remove_tree(side)  # only now: a run killed before this point continues from its checkpoints
    return True
