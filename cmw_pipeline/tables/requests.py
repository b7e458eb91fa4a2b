"""What to ask a cluster for: the time and memory of a run, from what runs like it have taken."""

import functools
import math
from pathlib import Path

import pandas as pd

from cmw_pipeline.config.cell import Cell
from cmw_pipeline.config.plan import RESULTS

_KEY = ["dataset", "method", "recipe"]
START_MINUTES = 10
"""Asked for on top: queue's prologue, imports, reading data, and the signal ahead of the limit."""
START_MIB = 2000


def minutes(run: str, unknown: int, attempt: int, root: Path = Path()) -> int:
    """Minutes to ask for: half as much again as its like took on the slowest device on record, and the start.

    Args:
        run: a cell's name.
        unknown: minutes where nothing is on record.
        attempt: 1 at first; each further attempt asks for as much again.
        root: the project folder.
    """
    known = _taken(root).get(_like(run))
    return attempt * (unknown if known is None else START_MINUTES + math.ceil(1.5 * known[0] / 60))


def mebibytes(run: str, unknown: int, attempt: int, root: Path = Path()) -> int:
    """Memory to ask for, in MiB: half as much again as the peak of its like, and room for the start."""
    known = _taken(root).get(_like(run))
    return attempt * (unknown if known is None else START_MIB + math.ceil(1.5 * known[1]))


def _like(run: str) -> tuple[str, str, str]:
    cell = Cell.parse(run)
    return cell.dataset, cell.method, cell.recipe


@functools.cache
def _taken(root: Path) -> dict[tuple[str, str, str], tuple[float, float]]:
    """(dataset, method, recipe) -> the longest mean of a device in seconds, the highest peak in MiB."""
    files = sorted(Path(root, RESULTS).glob("*.parquet"))
    found = [pd.read_parquet(file, columns=[*_KEY, "run", "device", "seconds", "peak_mib"]) for file in files]
    if not found:
        return {}
    runs = pd.concat(found).drop_duplicates("run")
    devices = runs.groupby([*_KEY, "device"], as_index=False).agg({"seconds": "mean", "peak_mib": "max"})
    worst = devices.groupby(_KEY, as_index=False)[["seconds", "peak_mib"]].max()
    return {
        (dataset, method, recipe): (float(seconds), float(peak))
        for dataset, method, recipe, seconds, peak in worst.itertuples(index=False)
    }
