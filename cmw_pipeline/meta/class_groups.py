"""Groups of classes of similar size: what CMW-Net calls task families."""

import numpy as np
import numpy.typing as npt
import torch

from cmw_pipeline.errors import ConfigError


def group_classes(counts: npt.ArrayLike | torch.Tensor, num_groups: int) -> npt.NDArray[np.int64]:
    """Split the classes by size into the groups of least squared deviation (exact 1-D k-means).

    The published code runs k-means on the raw class counts, whose cluster ids are arbitrary; here the
    optimum is found exactly and the groups are ordered by size, 0 = smallest, so that a learned
    weighting function means the same on another dataset.

    Args:
        counts: (C,) training samples of each class, by the labels in use.
        num_groups: K >= 1. With fewer distinct counts than K, the middle group, or the outermost ones,
            are used.

    Returns:
        (C,) group of each class, in 0..K-1. A permutation of the classes permutes the result.

    Raises:
        ConfigError: not one whole number >= 0 for each class, or no sample at all.

    >>> group_classes([5000, 3000, 3100, 500, 400], 3).tolist()
    [2, 1, 1, 0, 0]
    """
    sizes = class_sizes(counts)
    values, inverse, repeats = np.unique(sizes, return_inverse=True, return_counts=True)
    used = min(num_groups, len(values))
    ends = _best_splits(values, repeats.astype(np.float64), used)
    group_of_value = np.searchsorted(ends, np.arange(len(values)), side="right")
    names = _group_ids(used, num_groups)
    groups: npt.NDArray[np.int64] = names[group_of_value][inverse]
    return groups


def class_sizes(counts: npt.ArrayLike | torch.Tensor) -> npt.NDArray[np.float64]:
    """(C,) whole numbers that the class counts of a training set can be.

    Raises:
        ConfigError: they are none.
    """
    if isinstance(counts, torch.Tensor):
        counts = counts.detach().cpu()
        counts = (counts.double() if counts.is_floating_point() else counts).numpy()
    wanted = "expected one whole number >= 0 for each class, not all of them 0"
    try:
        found = np.asarray(counts)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ConfigError(f"class counts: {error}; {wanted}") from None
    if found.dtype.kind not in "iuf" or found.ndim != 1:
        raise ConfigError(f"class counts are {found.dtype} of shape {found.shape}; {wanted}")
    sizes = found.astype(np.float64)
    # Written so that a missing value is wrong too.
    wrong = np.flatnonzero(~((sizes >= 0) & (sizes == np.floor(sizes)) & (sizes < np.inf)))
    if wrong.size:
        raise ConfigError(f"class counts: class {wrong[0]} has {found[wrong[0]]} samples; {wanted}")
    if not sizes.any():
        raise ConfigError(f"class counts: {len(sizes)} classes without a sample; {wanted}")
    return sizes


def _group_ids(used: int, num_groups: int) -> npt.NDArray[np.int64]:
    if used == 1:
        return np.array([num_groups // 2])
    return np.round(np.linspace(0, num_groups - 1, used)).astype(np.int64)


def _best_splits(
    values: npt.NDArray[np.float64], weights: npt.NDArray[np.float64], groups: int
) -> npt.NDArray[np.int64]:
    """First index of each group but the first, by dynamic programming over sorted distinct values."""
    mass, first, second = (np.concatenate([[0.0], np.cumsum(weights * values**power)]) for power in (0, 1, 2))

    def cost(start: int, stop: int) -> float:
        """Squared deviation of values[start:stop] from their mean."""
        total = float(first[stop] - first[start])
        return float(second[stop] - second[start]) - total**2 / float(mass[stop] - mass[start])

    count = len(values)
    best = {(1, stop): (cost(0, stop), 0) for stop in range(1, count + 1)}
    for group in range(2, groups + 1):
        for stop in range(group, count + 1):
            best[group, stop] = min(
                (best[group - 1, start][0] + cost(start, stop), start) for start in range(group - 1, stop)
            )
    splits: list[int] = []
    stop = count
    for group in range(groups, 1, -1):
        stop = best[group, stop][1]
        splits.append(stop)
    return np.array(splits[::-1], dtype=np.int64)
