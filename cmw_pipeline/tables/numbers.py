"""A table's numbers as JSON, in the forms that `dvc metrics` and `dvc plots` read."""

import json
import re
from typing import Any

import pandas as pd

from cmw_pipeline.metrics.aggregate import over_seeds
from cmw_pipeline.tables.aggregate import ACCURACY, LAST
from cmw_pipeline.types import TEST

_CELL = ["dataset", "bias", "method", "recipe"]
_INNERMOST = re.compile(r"\{[^{}]*\}")
"""An object of JSON that holds no other."""


def numbers(rows: pd.DataFrame) -> str:
    """The test values after the last epoch.

    Args:
        rows: tidy rows of all runs that are there (``Page.ROWS``).

    Returns:
        JSON, a line for each cell. For metrics: ``<metric>`` -> ``dataset/bias/method/recipe`` -> ``mean``,
        ``std`` (of the sample; null for one seed), ``n``. For plots: ``points``, each cell's ``method`` and
        mean ``accuracy``. The values of single runs are in the table's Parquet file.
    """
    shown = rows[(rows["protocol"] == LAST) & (rows["split"] == TEST)]
    table: dict[str, Any] = {}
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
    table["points"] = [
        {"method": cell.split("/")[-2], "accuracy": found["mean"]}
        for cell, found in table.get(ACCURACY, {}).items()
    ]
    return _INNERMOST.sub(lambda found: json.dumps(json.loads(found[0])), json.dumps(table, indent=1)) + "\n"
