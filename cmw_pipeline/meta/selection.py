"""Meta-sets picked from the (noisy, lopsided) training set itself, anew each epoch."""

import numpy as np
import numpy.typing as npt
import torch

Rows = npt.NDArray[np.int64]
"""Positions in the training set."""


def random_per_class(labels: npt.NDArray[np.int64], per_class: int, rng: np.random.Generator) -> Rows:
    """``per_class`` random training samples of each class, by given label (long-tail tables)."""
    return lowest_per_class(labels, rng.random(len(labels)), per_class)


def lowest_per_class(labels: npt.NDArray[np.int64], losses: npt.NDArray[np.floating], per_class: int) -> Rows:
    """The ``per_class`` samples of smallest loss of each class, by given label (noise tables).

    Args:
        labels: (N,) given labels.
        losses: (N,) one loss a sample.
        per_class: samples of each class; of a class that has fewer, all.

    Returns:
        Their positions, class by class.
    """
    order = np.lexsort((losses, labels))
    ordered = labels[order]
    return order[np.arange(len(order)) - np.searchsorted(ordered, ordered) < per_class]


def place_in_class(labels: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """(N,) int64: how many samples of the same class have a smaller value.

    Args:
        labels: (N,) int64.
        values: (N,) what each class is sorted by, ascending; ties in order of the rows.
    """
    order = values.argsort(stable=True)
    order = order[labels[order].argsort(stable=True)]
    sizes = labels.bincount()
    starts = sizes.cumsum(0) - sizes
    place = torch.empty_like(labels)
    place[order] = torch.arange(len(labels), device=labels.device) - starts[labels[order]]
    return place
