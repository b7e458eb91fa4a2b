"""What a table will cost, from what runs like its own have cost before."""

from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from cmw_pipeline.config.plan import RESULTS, Cell

_KEY = ["dataset", "method", "recipe"]
Speeds = dict[tuple[str, str, str], dict[str, float]]
"""(dataset, method, recipe) -> device -> mean seconds of a run."""


def recorded_speeds(root: Path) -> Speeds:
    """What the runs in all finished tables of a project took."""
    found = [pd.read_parquet(file, columns=[*_KEY, "run", "device", "seconds"]) for file in _tables(root)]
    if not found:
        return {}
    runs = pd.concat(found).drop_duplicates("run")
    means = runs.groupby([*_KEY, "device"], as_index=False)["seconds"].mean()
    speeds: Speeds = {}
    for dataset, method, recipe, device, seconds in means.itertuples(index=False):
        speeds.setdefault((dataset, method, recipe), {})[device] = float(seconds)
    return speeds


def estimate(cells: Iterable[Cell], speeds: Speeds) -> list[str]:
    """One line a device: hours for the runs it has seen the like of; and a line for what nothing is known of.

    A run on several devices counts on the fastest.
    """
    hours: dict[str, list[float]] = {}
    unknown: dict[tuple[str, str, str], int] = {}
    for cell in cells:
        key = (cell.dataset, cell.method, cell.recipe)
        if key in speeds:
            device, seconds = min(speeds[key].items(), key=lambda pair: pair[1])
            hours.setdefault(device, []).append(seconds / 3600)
        else:
            unknown[key] = unknown.get(key, 0) + 1
    lines = [f"{len(each)} runs, about {sum(each):.2f} hours of {device}" for device, each in hours.items()]
    if unknown:
        first = "/".join(next(iter(unknown)))
        lines.append(f"{sum(unknown.values())} runs whose like has no recorded speed (such as {first})")
    return lines


def _tables(root: Path) -> list[Path]:
    return sorted(Path(root, RESULTS).glob("*.parquet"))
