"""Parts of a dataset, stratified, that never divide what belongs together."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

Ids = npt.NDArray[np.integer]


def units(content: npt.NDArray[Any], group: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """(N,) number of the unit of each row: rows of equal content or of one group are in one unit.

    Args:
        content: (N,) what tells equal samples.
        group: (N,) the group of each row; "" is no group.

    >>> units(np.array(["a", "b", "b", "c", "d"]), np.array(["x", "x", "", "", ""])).tolist()
    [0, 0, 0, 1, 2]
    """
    rows = np.arange(len(content))
    grouped = rows[group != ""]
    ends = [pd.factorize(content)[0], pd.factorize(group[grouped])[0]]
    first = [pd.Series(rows).groupby(ends[0]).transform("first").to_numpy()]
    first.append(pd.Series(grouped).groupby(ends[1]).transform("first").to_numpy())
    start, end = np.concatenate([rows, grouped]), np.concatenate(first)
    graph = coo_array((np.ones(len(start), dtype=bool), (start, end)), shape=(len(rows), len(rows)))
    _, number = connected_components(graph, directed=False)
    numbered: npt.NDArray[np.int64] = pd.factorize(number)[0].astype(np.int64)
    return numbered


def divide(labels: Ids, unit: Ids, parts: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """(N,) part of each row, 0..parts-1: every class is spread evenly, no unit is divided.

    The units of a class, by the label of a unit's first row, are dealt in random order; the last part gets
    its first one after ``parts - 1`` others, so a class of fewer units is not in it. A unit of several
    classes is dealt as one of its first row's.
    """
    _, first, place = np.unique(unit, return_index=True, return_inverse=True)
    label = labels[first]
    order = rng.permutation(len(label))
    order = order[np.argsort(label[order], kind="stable")]
    starts = np.searchsorted(label[order], label[order], side="left")
    part = np.empty(len(label), dtype=np.int64)
    part[order] = (np.arange(len(label)) - starts) % parts
    dealt: npt.NDArray[np.int64] = part[place]
    return dealt
