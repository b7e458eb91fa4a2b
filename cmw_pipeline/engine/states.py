"""How far the runs of a table are, by what lies there: manifests, locks, checkpoints."""

import csv
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cmw_pipeline.config.artefact import RESULTS, Artefact
from cmw_pipeline.config.cell import Cell
from cmw_pipeline.config.contracts import Run, TrainRequest
from cmw_pipeline.config.nearest import nearest
from cmw_pipeline.config.plan import Plan
from cmw_pipeline.errors import ConfigError
from cmw_pipeline.io.manifests import is_locked, is_stored, lock_path
from cmw_pipeline.runtime.logs import in_words


@dataclass(frozen=True)
class State:
    """Of one run: ``done``, ``running``, ``begun`` (a checkpoint, and nobody at work) or ``-``."""

    word: str
    epoch: int = 0
    """Epochs that are finished."""
    epochs: int = 0
    """Epochs in all."""
    accuracy: float | None = None
    """In percent, on the test samples, after the last epoch that was evaluated."""
    seconds_left: float | None = None
    """By the speed so far."""

    @property
    def text(self) -> str:
        """One short line."""
        parts = [self.word]
        if self.word in ("running", "begun"):
            parts.append(f"{self.epoch}/{self.epochs} epochs")
        if self.accuracy is not None:
            parts.append(f"{self.accuracy:.2f}%")
        if self.word == "running" and self.seconds_left is not None:
            parts.append(f"{in_words(self.seconds_left)} left")
        return "  ".join(parts)


def state(run: Artefact[TrainRequest], root: Path) -> State:
    """How far a run is."""
    epochs = run.request.recipe.epochs
    if is_stored(run, root):
        return State("done", epochs, epochs, _last_accuracy(root / run.path / Run.EPOCHS))
    word = "running" if is_locked(lock_path(run.stage, run.digest, root)) else "begun"
    kept = _newest_checkpoint(root / RESULTS / "checkpoints" / f"{run.stage}-{run.digest}")
    if kept is None:
        return State(word, 0, epochs) if word == "running" else State("-", 0, epochs)
    scores = [record["scores"].get("test", {}).get("accuracy") for record in kept["records"]]
    accuracy = next((score for score in reversed(scores) if score is not None), None)
    done = kept["epoch"]
    left = kept["spent"] / done * (epochs - done) if done else None
    return State(word, done, epochs, accuracy, left)


def _last_accuracy(file: Path) -> float | None:
    try:
        with file.open(newline="") as lines:
            last = [row for row in csv.DictReader(lines) if row.get("accuracy")][-1]
        return float(last["accuracy"])
    except (OSError, IndexError, ValueError):
        return None


def _newest_checkpoint(folder: Path) -> dict[str, Any] | None:
    """What is no tensor of the newest checkpoint; None where there is none that can be read."""
    for path in sorted(folder.glob("step-[0-9]*"), reverse=True):
        try:
            found: dict[str, Any] = json.loads((path / "state.json").read_text())["meta"]
            return found
        except (OSError, ValueError, KeyError):
            continue
    return None


def chosen(plan: Plan, table: str, wanted: dict[str, str | int | None]) -> list[Cell]:
    """The cells of a table whose dataset, bias, method, recipe and seed are those wanted; None: any.

    A method may be called by its row's label.

    Raises:
        ConfigError: no cell of the table has one of them.
    """
    cells = plan.cells(table)
    for part, value in wanted.items():
        if value is not None:
            cells = _with(plan, table, cells, part, value)
    return cells


def _with(plan: Plan, table: str, cells: list[Cell], part: str, value: str | int) -> list[Cell]:
    found = [cell for cell in cells if value in _called(plan, cell, part)]
    if not found:
        known = dict.fromkeys(str(getattr(cell, part)) for cell in cells)
        raise ConfigError(f"{table} has no cell of the {part} {value}{nearest(str(value), list(known))}")
    return found


def _called(plan: Plan, cell: Cell, part: str) -> Iterable[str | int | None]:
    name: str | int = getattr(cell, part)
    return (name, plan.params.methods[cell.method].label) if part == "method" else (name,)
