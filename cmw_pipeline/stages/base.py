"""What every stage is: a pure function from verified inputs to the files of one artefact."""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic

from cmw_pipeline.config.artefact import Artefact, Asked
from cmw_pipeline.io.atomic import remove_tree
from cmw_pipeline.io.manifests import Stored, exclusive, is_stored, open_inputs, publish
from cmw_pipeline.runtime.team import SOLO, Team


@dataclass(frozen=True)
class Job(Generic[Asked]):
    """One artefact to make: ``request`` asks, ``inputs`` are verified, ``out`` is filled.

    ``notes`` go into the manifest, ``cost`` beside what this process costs. ``side`` is a directory of no
    rule's, kept between attempts, for checkpoints.
    """

    artefact: Artefact[Asked]
    inputs: dict[str, Stored]
    out: Path
    notes: dict[str, Any]
    cost: dict[str, float]
    side: Path

    @property
    def request(self) -> Asked:
        """All that is asked."""
        return self.artefact.request


def make(artefact: Artefact[Asked], run: Callable[[Job[Asked]], None], root: Path, team: Team = SOLO) -> bool:
    """Make an artefact unless it is there already.

    Of a team of processes all run the stage, and only the leader's files are kept.

    Args:
        artefact: what is planned.
        run: the stage's function.
        root: the project folder.
        team: the processes that call this together.

    Returns:
        True where it was made now, False where it was there.

    Raises:
        IntegrityError: an input is missing or is not what its manifest says.
    """
    side = root / "results" / "checkpoints" / f"{artefact.stage}-{artefact.digest}"
    if not team.leads:
        if team.agree(0):
            return False
        with tempfile.TemporaryDirectory() as out:
            run(Job(artefact, open_inputs(artefact, root), Path(out), {}, {}, side))
        return True
    with exclusive(artefact, root):
        if team.agree(is_stored(artefact, root)):
            remove_tree(side)  # left by a process that was killed after it had published
            return False
        inputs = open_inputs(artefact, root)
        with publish(artefact, inputs, root) as draft:
            run(Job(artefact, inputs, draft.path, draft.notes, draft.cost, side))
        remove_tree(side)  # only now: a run killed before this point continues from its checkpoints
    return True
