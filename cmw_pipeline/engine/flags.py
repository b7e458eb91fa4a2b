"""What Snakemake is told of what lies there: reasons to make it again that no time stamp decides."""

import functools
import os
import time
from pathlib import Path
from typing import Any

from cmw_pipeline.config.artefact import PAGES, RESULTS, Artefact
from cmw_pipeline.config.contracts import Page
from cmw_pipeline.config.pages import AuditPage
from cmw_pipeline.config.plan import Plan
from cmw_pipeline.data.outside import lineage
from cmw_pipeline.io.atomic import write_text
from cmw_pipeline.io.receipts import is_current

_FLAGS = Path(".snakemake", "outdated")


class Seen:
    """A project as one planning sees it: each manifest is read once.

    Args:
        plan: what is asked for.
        root: the project folder.
    """

    def __init__(self, plan: Plan, root: Path = Path()) -> None:
        self.plan = plan
        self.root = root
        self.line = lineage(root)
        self._artefact = functools.cache(lambda stage, text: plan.resolve(stage, text))

    def artefact(self, stage: str, name: str, digest: str) -> Artefact[Any]:
        """The artefact of a job.

        Raises:
            ConfigError: no such name under the plan's parameters, or its digest is another one.
        """
        found: Artefact[Any] = self._artefact(stage, f"{stage}/{name}-{digest}")
        return found

    def planned(self, *stages: str) -> list[str]:
        """The manifests of all artefacts of these stages that the built tables need."""
        return [a.manifest for a in self.plan.artefacts().values() if a.stage in stages]

    def inputs(self, artefact: Artefact[Any]) -> list[str]:
        """The manifests that an artefact or a page is made from, for Snakemake to have made before.

        Not those of stale ones: see :meth:`changes`. Of what is made already not those that are not there,
        which Snakemake would take for a reason to make it again. Of a page also those of its line that are
        not there: it stands on all of it. One that lies in the future is dated now, since Snakemake refuses
        what it makes of it as older than its input.
        """
        sources = [source for source in artefact.inputs.values() if not self.line.stale(source)]
        if artefact.stage in PAGES:
            sources += [gap for gap in self._gaps(artefact) if not self.line.stale(gap)]
        elif self.is_made(artefact):
            sources = [source for source in sources if self.line.content(source)]
        manifests = list(dict.fromkeys(source.manifest for source in sources))
        for manifest in manifests:
            _not_in_the_future(self.root / manifest)
        return manifests

    def changes(self, artefact: Artefact[Any]) -> list[str]:
        """Inputs that make Snakemake make an artefact or a page again; none where it is current.

        Stale ones that it is made from, and where it is there, and not current, a flag. Snakemake knows two
        reasons to run a rule whose output is there: its own records, which a fresh clone does not have, and
        an input that is newer or made in the same run. The flag is written now and the output dated before
        it, wherever the clock stood.
        """
        changed = [source.manifest for source in artefact.inputs.values() if self.line.stale(source)]
        output = self.root / _output(artefact)
        if output.exists() and not self.is_made(artefact):
            before = (self.root / self._flag).stat().st_mtime - 60
            os.utime(output, (before, before))
            changed.append(str(self._flag))
        return list(dict.fromkeys(changed))

    def is_made(self, artefact: Artefact[Any]) -> bool:
        """Whether an artefact or a page is there, and current."""
        if artefact.stage in PAGES:
            return is_current(artefact, self.line)
        return self.line.content(artefact) is not None and self.line.stale(artefact) is None

    def _gaps(self, page: Artefact[Any]) -> list[Artefact[Any]]:
        return [gap for source in page.inputs.values() for gap in self.line.gaps(source).values()]

    @functools.cached_property
    def _flag(self) -> Path:
        """A file that is newer than all that is not current. One for all: Snakemake lists a folder once.

        Its text is new each time, since Snakemake passes over an input of known content.
        """
        now = time.time_ns()
        flag = _FLAGS / f"{now}-{os.getpid()}" / "seen"
        write_text(self.root / flag, f"something was not current at {now} ns\n")
        return flag


def _output(artefact: Artefact[Any]) -> str:
    """What Snakemake asks the rule for."""
    if artefact.stage not in PAGES:
        return artefact.manifest
    ending = AuditPage.PAGE if artefact.stage == "audit" else Page.PAGE
    return f"{RESULTS}/{artefact.name}{ending.name}"


def _not_in_the_future(file: Path) -> None:
    if file.exists() and file.stat().st_mtime > time.time():
        os.utime(file)
