"""A small training set: the same number of samples of each class."""

import numpy as np
import numpy.typing as npt

from cmw_pipeline.errors import ConfigError
from cmw_pipeline.types import Labels


def small_set(
    labels: Labels, per_class: int, num_classes: int, rng: np.random.Generator
) -> npt.NDArray[np.bool_]:
    """Choose the samples that a small training set keeps: a uniformly random subset within each class.

    Args:
        labels: (N,) class ids in [0, num_classes).
        per_class: samples of each class, >= 1.
        num_classes: C.
        rng: the stream to draw from.

    Returns:
        (N,) True where the sample is kept.

    Raises:
        ConfigError: a class has fewer samples.
    """
    smallest = int(np.bincount(labels, minlength=num_classes).min())
    if per_class > smallest:
        raise ConfigError(
            f"keep-{per_class}: the smallest class has {smallest} samples",
            f"choose at most keep-{smallest}",
        )
    kept = np.zeros(len(labels), dtype=np.bool_)
    for label in range(num_classes):
        kept[rng.permutation(np.flatnonzero(labels == label))[:per_class]] = True
    return kept
