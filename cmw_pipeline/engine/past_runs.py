"""What runs have taken, by the rows of finished tables: what to ask a cluster for, what is still to come."""

import functools
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import pyarrow.parquet as pq

from cmw_pipeline.config.artefact import RESULTS
from cmw_pipeline.config.cell import Cell
from cmw_pipeline.config.contracts import Page
from cmw_pipeline.engine.flags import Seen
from cmw_pipeline.engine.forecast import Forecast
from cmw_pipeline.runtime.logs import in_words

START_MINUTES = 10
"""Asked for on top: queue's prologue, imports, reading data, and the signal ahead of the limit."""
START_MIB = 2000
_KIND = ["dataset", "method", "recipe"]
_TAKEN = ["device", "seconds", "peak_mib"]
Kind = tuple[str, str, str]
"""Dataset, method and recipe: runs of one kind take the same time."""


class Taken(NamedTuple):
    """What a run takes: seconds, a mean over the runs on record, and memory in MiB, their highest peak."""

    seconds: float
    mib: float


def like(run: Cell, root: Path = Path()) -> Mapping[str, Taken]:
    """What runs of a cell's dataset, method and recipe took, by device; empty where none is on record."""
    return _recorded(root).get(_kind(run), {})


def minutes(run: str, unknown: int, attempt: int, root: Path = Path()) -> int:
    """Minutes to ask for: half as much again as its like took on the slowest device on record, and the start.

    Args:
        run: a cell's name.
        unknown: minutes where nothing is on record.
        attempt: 1 at first; each further attempt asks for as much again.
        root: the project folder.
    """
    known = like(Cell.parse(run), root).values()
    longest = max((taken.seconds for taken in known), default=None)
    return attempt * (unknown if longest is None else START_MINUTES + math.ceil(1.5 * longest / 60))


def mebibytes(run: str, unknown: int, attempt: int, root: Path = Path()) -> int:
    """Memory to ask for, in MiB: half as much again as the peak of its like, and room for the start."""
    peak = max((taken.mib for taken in like(Cell.parse(run), root).values()), default=None)
    return attempt * (unknown if peak is None else START_MIB + math.ceil(1.5 * peak))


def still_to_come(table: str, seen: Seen) -> list[str]:
    """How many cells a table has and how many of them still have to be trained; and their estimate."""
    cells = seen.plan.cells(table)
    left = [cell for cell in cells if not seen.is_made(seen.plan.run(cell))]
    counted = f"{table}: {len(cells)} cells, {len(left)} to train"
    lines = estimate(left, Forecast(seen.plan, seen.root), seen.root)
    return [counted, *(f"  {line}" for line in lines)]


def estimate(cells: Iterable[Cell], forecast: Forecast, root: Path = Path()) -> list[str]:
    """One line a device: time for the runs it has seen the like of; and lines for those of no like.

    A run on several devices counts on the fastest.
    """
    seconds: dict[str, list[float]] = {}
    unknown: list[Cell] = []
    for cell in cells:
        taken = like(cell, root)
        if taken:
            device = min(taken, key=lambda name: taken[name].seconds)
            seconds.setdefault(device, []).append(taken[device].seconds)
        else:
            unknown.append(cell)
    lines = [f"{len(each)} runs, about {in_words(sum(each))} of {device}" for device, each in seconds.items()]
    return [*lines, *_never_run(unknown, forecast)]


def _never_run(cells: list[Cell], forecast: Forecast) -> list[str]:
    """What runs of no like will take by their operations, and how many of them nothing is known of."""
    found = {cell: forecast.seconds(cell) for cell in cells}
    spans = [span for span in found.values() if span is not None]
    dark = [cell for cell, span in found.items() if span is None]
    lines = []
    if spans:
        span = _span(*(sum(ends) for ends in zip(*spans, strict=True)))
        measured = "" if forecast.here else "; `cmw cost TABLE` measures this machine"
        lines.append(
            f"{len(spans)} runs never timed, {span} of {forecast.speed.machine} by their counted operations"
            f"{measured}"
        )
    if dark:
        kind = "/".join(_kind(dark[0]))
        lines.append(f"{len(dark)} runs of unknown size (such as {kind}): {forecast.lacks(dark[0])}")
    return lines


def _span(least: float, most: float) -> str:
    """A range of seconds in one unit.

    >>> _span(60, 150), _span(2e5, 6e5)
    ('1 to 2 min', '56 to 167 h')
    """
    size, unit = (60, "min") if most < 7200 else (3600, "h")
    return f"{least / size:,.0f} to {most / size:,.0f} {unit}"


def _kind(cell: Cell) -> Kind:
    return cell.dataset, cell.method, cell.recipe


@functools.cache
def _recorded(root: Path) -> dict[Kind, dict[str, Taken]]:
    runs: dict[Kind, dict[str, dict[str, Taken]]] = {}
    for file in sorted(Path(root, RESULTS).glob(f"*{Page.ROWS.name}")):
        columns = pq.ParquetFile(file).read(columns=[*_KIND, "run", *_TAKEN]).to_pydict()
        for *kind, run, device, seconds, mib in zip(*columns.values(), strict=True):
            of_kind = runs.setdefault((kind[0], kind[1], kind[2]), {})
            of_kind.setdefault(device, {}).setdefault(run, Taken(seconds, mib))  # it has several rows
    return {
        kind: {device: _together(list(seen.values())) for device, seen in devices.items()}
        for kind, devices in runs.items()
    }


def _together(runs: list[Taken]) -> Taken:
    return Taken(sum(run.seconds for run in runs) / len(runs), max(run.mib for run in runs))
