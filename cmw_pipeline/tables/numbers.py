"""A table's numbers as JSON, in the forms that `dvc metrics` and `dvc plots` read."""

import json

import pandas as pd

from cmw_pipeline.metrics.aggregate import over_seeds
from cmw_pipeline.tables.aggregate import LAST
from cmw_pipeline.types import TEST

_CELL = ["dataset", "bias", "method", "recipe"]


def numbers(rows: pd.DataFrame) -> str:
    """The test values after the last epoch.

    Args:
        rows: tidy rows of all runs that are there (``types.ROW_COLUMNS``).

    Returns:
        JSON. ``<metric>`` -> ``dataset/bias/method/recipe`` -> ``mean``, ``std`` (of the sample; null for one
        seed) and ``n``; and ``runs``, a list with one entry a run.
    """
    shown = rows[(rows["protocol"] == LAST) & (rows["split"] == TEST)]
    table: dict[str, object] = {}
    for metric, values in shown.groupby("metric", sort=False):
        cells = over_seeds(values, _CELL).to_dict("records")
        table[str(metric)] = {
            "/".join(cell[name] for name in _CELL): {
                "mean": cell["mean"],
                "std": None if pd.isna(cell["std"]) else cell["std"],
                "n": cell["n"],
            }
            for cell in cells
        }
    wide = shown.pivot_table("value", [*_CELL, "seed"], "metric", sort=False).reset_index()
    table["runs"] = json.loads(wide.to_json(orient="records", double_precision=15))
    return json.dumps(table, indent=1) + "\n"
