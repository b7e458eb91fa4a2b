"""The numbers of the published tables, to stand beside ours.

``published.csv`` is tidy: one row a number, in percent, with ``bias`` in this package's bias names and
``method`` as printed. ``note`` says what is known to be wrong or unusual about a number.
``published_recipes.csv`` has the networks and epochs behind a table, with the rows and the code that say so;
of rows that it does not name the recipe is not published, or is another paper's.
"""

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from cmw_pipeline.config.nearest import nearest
from cmw_pipeline.errors import ConfigError

_FILE = Path(__file__).with_name("published.csv")
_WEIGHTING = Path(__file__).with_name("published_weighting.csv")
_RECIPES = Path(__file__).with_name("published_recipes.csv")
_NUMBERS = ("value", "std")


def published_weighting() -> pd.DataFrame:
    """The published weighting function: ``loss``, and the weight in the class groups small, moderate, large.

    Learned by CMW-Net-SL on CIFAR-10 with 35% Type-I and 30% asymmetric noise; the values are those of the
    weight net that its authors give away (vnet_119.pth).
    """
    return pd.read_csv(_WEIGHTING)


@dataclass(frozen=True)
class Published:
    """One published number; ``std`` is None where none was printed."""

    value: float
    std: float | None
    note: str


def published(table: str) -> pd.DataFrame:
    """The rows of one published table (``table1`` ... ``table10``, ``fig9``).

    Raises:
        ConfigError: there is no such table.
    """
    rows = _read()
    found = rows[rows["table"] == table]
    if found.empty:
        raise ConfigError(
            f"published table {table!r} is not known{nearest(table, list(rows['table'].unique()))}"
        )
    return found.reset_index(drop=True)


def is_published_recipe(table: str, recipe: Mapping[str, Any]) -> bool:
    """Whether a recipe, as it is asked for, has the network and the epochs of a published table's cells."""
    asked = recipe["network"]
    if asked["width"] is not None or recipe["smoke"]:
        return False
    rows = pd.read_csv(_RECIPES)
    same = (
        (rows["table"] == table) & (rows["network"] == asked["name"]) & (rows["epochs"] == recipe["epochs"])
    )
    return bool(same.any())


def of_unknown_recipe(table: str, methods: Sequence[str]) -> list[str]:
    """Those methods of a published table whose recipe is not published, or is another paper's."""
    rows = pd.read_csv(_RECIPES)
    named = "; ".join(rows.loc[rows["table"] == table, "rows"]).split("; ")
    return [method for method in methods if method not in named]


def lookup(table: str, metric: str) -> dict[tuple[str, str, str], Published]:
    """A published table's numbers by (dataset, bias, method as printed).

    Raises:
        ConfigError: there is no such table, or it does not give this metric.
    """
    rows = published(table)
    chosen = rows[rows["metric"] == metric]
    if chosen.empty:
        listed = ", ".join(rows["metric"].unique())
        raise ConfigError(
            f"published table {table!r} gives {listed}, not {metric}", "set the table's `metric` to that"
        )
    return {
        (row["dataset"], row["bias"], row["method"]): Published(
            row["value"], None if math.isnan(row["std"]) else row["std"], row["note"]
        )
        for row in chosen.to_dict("records")
    }


def printed_column(dataset: str, bias: str) -> tuple[str, str]:
    """The dataset and bias by which ``published.csv`` has a column of ours.

    There a bias is the noise, here also whose draw it is; data with noise of their own are ``native`` there.

    >>> printed_column("cifar10", "plc:type1-0.35+plc:asym-0.3")
    ('cifar10', 'type1-0.35+two-way:asym-0.3')
    >>> printed_column("web-bird", "none")
    ('web_bird', 'native')
    """
    return dataset.replace("-", "_"), "native" if bias == "none" else _printed_bias(dataset, bias)


def _printed_bias(dataset: str, bias: str) -> str:
    if "type" not in bias:
        return bias
    pairs = {"cifar10": "two-way", "cifar100": "blocks"}.get(dataset, "plc")
    ours = bias.replace("plc:type", "type").replace("plc:sym-", "other:sym-")
    return ours.replace("plc:asym-", f"{pairs}:asym-")


@functools.cache
def _read() -> pd.DataFrame:
    rows = pd.read_csv(_FILE, dtype=str, keep_default_na=False)
    for column in _NUMBERS:
        rows[column] = pd.to_numeric(rows[column].replace("", None))
    return rows
