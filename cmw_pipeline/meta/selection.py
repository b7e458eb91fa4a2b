"""Meta-sets picked from the (noisy, lopsided) training set itself, anew each epoch."""

import numpy as np
import numpy.typing as npt

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
        per_class: samples of each class; every class must have as many.

    Returns:
        Their positions, class by class.
    """
    order = np.lexsort((losses, labels))
    classes, starts = np.unique(labels[order], return_index=True)
    return np.concatenate([order[start : start + per_class] for start in starts[: len(classes)]])
