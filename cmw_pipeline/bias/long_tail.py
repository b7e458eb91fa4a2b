"""Long-tailed class sizes: class 0 stays whole, every later class is smaller by the same factor."""

import numpy as np
import numpy.typing as npt

from cmw_pipeline.bias.samples import Draws, Samples
from cmw_pipeline.config.bias_names import BiasStep
from cmw_pipeline.config.datasets import DatasetFacts
from cmw_pipeline.types import Labels

_ROUNDING = 1e-9
"""An exact integer may come out of the power a few ulps too small; without this it would lose one."""


def class_sizes(n_max: int, num_classes: int, imbalance_factor: float) -> npt.NDArray[np.int64]:
    """Sizes of the classes of a long tail, ``n_j = int(n_max * (1/IF)^(j/(C-1)))``.

    The exponential profile of the CMW-Net experiments (Shu et al., TPAMI 2023, Table 1; their code).

    Args:
        n_max: the size of class 0.
        num_classes: C.
        imbalance_factor: IF >= 1, the size of the first class over that of the last.

    Returns:
        (C,) sizes, descending.

    >>> class_sizes(5000, 10, 100).tolist()
    [5000, 2997, 1796, 1077, 645, 387, 232, 139, 83, 50]
    """
    position = np.linspace(0.0, 1.0, num_classes)
    sizes = n_max * (1.0 / imbalance_factor) ** position
    return np.floor(sizes + _ROUNDING).astype(np.int64)


def long_tail(
    labels: Labels, imbalance_factor: float, num_classes: int, rng: np.random.Generator
) -> npt.NDArray[np.bool_]:
    """Choose the samples that a long tail keeps: a uniformly random subset within each class.

    The largest class of ``labels`` sets n_max. A class that has fewer samples than its place in the tail
    allows keeps all of them.

    Args:
        labels: (N,) class ids in [0, num_classes).
        imbalance_factor: IF >= 1.
        num_classes: C, counted whether or not the last classes have samples.
        rng: the stream to draw from.

    Returns:
        (N,) True where the sample is kept.
    """
    counts = np.bincount(labels, minlength=num_classes)
    sizes = class_sizes(int(counts.max()), num_classes, imbalance_factor)
    kept = np.zeros(len(labels), dtype=np.bool_)
    for label, size in enumerate(sizes):
        kept[rng.permutation(np.flatnonzero(labels == label))[:size]] = True
    return kept


def draw(samples: Samples, step: BiasStep, facts: DatasetFacts, draws: Draws) -> Samples:
    """A long tail of all samples; behind few labels, of the unlabelled ones only."""
    if samples.candidates is None or samples.hidden is None:
        return samples.only(long_tail(samples.labels, step.value, facts.num_classes, draws.own))
    kept, unlabelled = np.ones(len(samples.labels), dtype=np.bool_), samples.candidates.all(axis=1)
    kept[unlabelled] = long_tail(samples.hidden[unlabelled], step.value, facts.num_classes, draws.own)
    return samples.only(kept)
