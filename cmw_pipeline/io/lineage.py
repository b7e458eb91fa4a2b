"""Whether what lies there is still made of what lies there.

A path says what was asked, and nothing of what was in a user's folder. Therefore every manifest records the
content of what it was made from, and every reader has it compared here, along the whole line: a run against
its labels, the labels against their images. Something that is not there contradicts nothing; something else
in its place makes *stale* what was made before. Time stamps are not looked at.
"""

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from cmw_pipeline.config.artefact import Artefact
from cmw_pipeline.errors import IntegrityError
from cmw_pipeline.io.atomic import remove_tree, write_text
from cmw_pipeline.io.manifests import Stored, content, is_stored, open_stored, read_manifest, result

GROUND = "made-from.json"
"""Beside checkpoints: the results of the inputs that they were made from."""
log = logging.getLogger(__name__)
Notes: TypeAlias = dict[str, Any]
Outside: TypeAlias = Callable[[Artefact[Any], Path, Notes], str | None]
"""Of an artefact, its path and its notes: what has changed outside the project since; None for nothing."""


class Stale(NamedTuple):
    """What stands on changed ground: the first artefact of the line to be made again, and what changed."""

    artefact: Artefact[Any]
    why: str

    @property
    def error(self) -> IntegrityError:
        """Says so, with the command to type."""
        stage, name = self.artefact.stage, self.artefact.name
        hint = f"`cmw {stage} {name}` makes it again; `snakemake`, all that stands on it too"
        return IntegrityError(f"{self.artefact.path}: {self.why}", hint)


class _Record(NamedTuple):
    """What a manifest says that is compared."""

    digest: str
    content: str
    result: str
    inputs: dict[str, dict[str, str]]
    notes: Notes


class Lineage:
    """The artefacts of a project as they lie there now; each is read, and its files are checked, once.

    Args:
        root: the project folder.
        outside: compares what artefacts were made from that is no artefact.
    """

    def __init__(self, root: Path, outside: Outside) -> None:
        self.root = root
        self._outside = outside
        self._records: dict[str, _Record | IntegrityError | None] = {}
        self._stale: dict[str, Stale | None] = {}
        self._open: dict[str, Stored] = {}

    def content(self, artefact: Artefact[Any]) -> str | None:
        """The content of an artefact by its manifest alone; None where there is no such manifest."""
        record = self._record(artefact)
        return record.content if isinstance(record, _Record) else None

    def stale(self, artefact: Artefact[Any]) -> Stale | None:
        """What of an artefact's line, itself included, stands on changed ground; None where nothing does."""
        key = str(artefact.path)
        if key not in self._stale:
            above = (self.stale(source) for source in artefact.inputs.values())
            self._stale[key] = next(filter(None, above), None) or self._changed(artefact)
        return self._stale[key]

    def gaps(self, artefact: Artefact[Any]) -> dict[str, Artefact[Any]]:
        """The artefacts of its line, itself included, that are not there, by path; inputs first."""
        found: dict[str, Artefact[Any]] = {}
        for source in artefact.inputs.values():
            found |= self.gaps(source)
        return found if self._record(artefact) else found | {str(artefact.path): artefact}

    def open(self, artefact: Artefact[Any]) -> Stored:
        """A planned artefact, to read: its files are whole, and nothing of its line has changed.

        Raises:
            IntegrityError: it is missing, damaged, another artefact's directory under its name, or stale.
        """
        key = str(artefact.path)
        if key not in self._open:
            if not is_stored(artefact, self.root):
                hint = f"make it first: `cmw {artefact.stage} {artefact.name}`"
                raise IntegrityError(f"{artefact.path}: there is no finished artefact here", hint)
            stored = open_stored(self.root / artefact.path)
            if stored.manifest["digest"] != artefact.digest:
                raise IntegrityError(f"{stored.path}: holds the artefact {stored.manifest['digest']}")
            if stale := self.stale(artefact):
                raise stale.error
            self._open[key] = stored
        return self._open[key]

    def open_inputs(self, artefact: Artefact[Any]) -> dict[str, Stored]:
        """The artefacts that this one is made from, each as :meth:`open` gives it, by role.

        Raises:
            IntegrityError: one is missing, damaged, under a path that is not its own, or stale.
        """
        return {role: self.open(source) for role, source in artefact.inputs.items()}

    def _record(self, artefact: Artefact[Any]) -> _Record | IntegrityError | None:
        key = str(artefact.path)
        if key not in self._records:
            self._records[key] = self._read(artefact)
        return self._records[key]

    def _read(self, artefact: Artefact[Any]) -> _Record | IntegrityError | None:
        if not is_stored(artefact, self.root):
            return None
        try:
            manifest = read_manifest(self.root / artefact.path)
        except IntegrityError as error:
            return error
        inputs, notes = manifest["inputs"], manifest["notes"]
        return _Record(manifest["digest"], content(manifest), result(manifest), inputs, notes)

    def _changed(self, artefact: Artefact[Any]) -> Stale | None:
        there = self._record(artefact)
        if isinstance(there, IntegrityError):
            return Stale(artefact, there.message)
        if there is None:
            return None
        if there.digest != artefact.digest:
            return Stale(artefact, f"holds the artefact {there.digest}")
        for role, source in artefact.inputs.items():
            was, now = there.inputs.get(role), self._record(source)
            if was and isinstance(now, _Record) and not _same(was, now):
                return Stale(artefact, f"made from another content of {source.path} than is there now")
        why = self._outside(artefact, self.root / artefact.path, there.notes)
        return Stale(artefact, why) if why else None


def leave_other_ground(side: Path, inputs: dict[str, Stored]) -> None:
    """Remove checkpoints that were made from other inputs, under the same names, than lie there now.

    Args:
        side: the folder of the checkpoints.
        inputs: what is read now.
    """
    ground, file = json.dumps({role: stored.result for role, stored in inputs.items()}), side / GROUND
    if file.is_file() and file.read_text() != ground:
        log.warning("%s: checkpoints of other data are removed", side)
        remove_tree(side)
    write_text(file, ground)


def _same(was: dict[str, str], now: _Record) -> bool:
    """Whether an input is what it was; manifests of earlier versions do not record its result."""
    return was["content"] == now.content or was.get("result") == now.result
