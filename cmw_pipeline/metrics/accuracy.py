"""Classification accuracy in percent."""

from typing import Any

import numpy as np
import numpy.typing as npt

from cmw_pipeline.errors import NumericsError


def top_k_accuracy(
    logits: npt.NDArray[np.floating[Any]], labels: npt.NDArray[np.integer[Any]], k: int = 1
) -> float:
    """Percent of samples whose label is among the k largest logits (N, C); of equals, the lower class.

    Raises:
        ValueError: the shapes or dtypes do not fit, or k is not in 1..C.
        NumericsError: a logit is not a number, so that no order exists.

    >>> top_k_accuracy(np.array([[3.0, 2.0, 1.0], [3.0, 2.0, 1.0]]), np.array([1, 2]), k=2)
    50.0
    """
    if logits.ndim != 2 or labels.shape != (len(logits),) or labels.size == 0:
        raise ValueError(f"logits {logits.shape} for labels {labels.shape}; expected (N, C) and (N,), N > 0")
    if logits.dtype.kind != "f" or labels.dtype.kind not in "iu":
        raise ValueError(f"logits {logits.dtype}, labels {labels.dtype}; expected floats and integers")
    if not 1 <= k <= logits.shape[1]:
        raise ValueError(f"k is {k}; there are {logits.shape[1]} classes")
    if np.isnan(logits).any():
        raise NumericsError(f"{np.isnan(logits).any(axis=1).sum()} of {len(logits)} samples have NaN logits")
    largest = np.argsort(-logits, axis=1, kind="stable")[:, :k]
    return 100.0 * float(np.mean((largest == labels[:, None]).any(axis=1)))


def shot_groups(
    train_counts: npt.NDArray[np.integer[Any]], test_labels: npt.NDArray[np.integer[Any]]
) -> dict[str, npt.NDArray[np.intp]]:
    """The test samples of classes of many (more than 100), medium and few (less than 20) training samples.

    The thresholds of Kang et al., ICLR 2020. Where all classes have as many test samples, the accuracy on a
    group is the mean of its classes' accuracies.

    Args:
        train_counts: (C,) training samples of each class.
        test_labels: (N,) in [0, C).

    >>> shot_groups(np.array([101, 20, 19]), np.array([2, 0, 1]))["medium"]
    array([2])
    """
    of_sample = train_counts[test_labels]
    many, few = of_sample > 100, of_sample < 20
    groups = {"many": many, "medium": ~many & ~few, "few": few}
    return {name: np.flatnonzero(rows) for name, rows in groups.items()}
