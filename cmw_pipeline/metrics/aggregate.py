"""Means over seeds: n, mean, sample standard deviation, standard error."""

import numpy as np
import pandas as pd


def over_seeds(rows: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """Aggregate the ``value`` of tidy rows over their ``seed``.

    Args:
        rows: one row a number, with the columns ``by``, ``seed`` and ``value``.
        by: what tells one cell from another.

    Returns:
        One row a cell in order of appearance: ``by``, ``n``, ``mean``, ``std`` (of the sample, with
        n - 1; NaN for one seed) and ``standard_error`` (std / sqrt(n)).

    Raises:
        ValueError: a cell has two values of one seed, which would pass for two runs.
    """
    repeated = rows.duplicated([*by, "seed"])
    if repeated.any():
        raise ValueError(f"two values of one seed: {rows.loc[repeated, [*by, 'seed']].iloc[0].to_dict()}")
    groups = rows.groupby(by, sort=False)["value"]
    result = groups.agg(n="count", mean="mean", std="std").reset_index()
    result["standard_error"] = result["std"] / np.sqrt(result["n"])
    return result
