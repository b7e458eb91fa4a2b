"""Symmetric label noise: a wrong label is equally likely to be any class."""

import numpy as np

from cmw_pipeline.bias.samples import Draws, Samples
from cmw_pipeline.config.bias_names import BiasStep
from cmw_pipeline.config.datasets import DatasetFacts
from cmw_pipeline.types import Labels


def symmetric(
    labels: Labels, rate: float, num_classes: int, rng: np.random.Generator, *, other: bool = False
) -> Labels:
    """Give ``int(rate * N)`` samples, drawn uniformly over the whole set, a random label.

    By default the new label is uniform over all C classes, the present one included, as in the official
    code of CMW-Net and DivideMix: the share of labels that really change is ``rate * (C-1)/C``.

    With ``other`` it is uniform over the C-1 other classes, and exactly the chosen samples change. (The
    code of PLC, Zhang et al., ICLR 2021, flips each sample independently with probability ``rate``; here
    the number of chosen samples is exact under both variants.)

    Args:
        labels: (N,) class ids in [0, num_classes); not changed.
        rate: in [0, 1].
        num_classes: C >= 2.
        rng: the stream to draw from.
        other: never draw the present label.

    Returns:
        (N,) new labels.
    """
    noisy = labels.copy()
    chosen = rng.permutation(len(labels))[: int(rate * len(labels))]
    if other:
        step = rng.integers(1, num_classes, size=len(chosen))
        drawn = (labels[chosen] + step) % num_classes
    else:
        drawn = rng.integers(num_classes, size=len(chosen))
    noisy[chosen] = drawn.astype(np.int16)
    return noisy


def over_all(samples: Samples, step: BiasStep, facts: DatasetFacts, draws: Draws) -> Samples:
    """Symmetric noise over all classes, at the step's rate."""
    return samples.labelled(symmetric(samples.labels, step.value, facts.num_classes, draws.own))


def over_others(samples: Samples, step: BiasStep, facts: DatasetFacts, draws: Draws) -> Samples:
    """Symmetric noise over the other classes, at the step's rate."""
    return samples.labelled(symmetric(samples.labels, step.value, facts.num_classes, draws.own, other=True))


def by_frequency(samples: Samples, step: BiasStep, facts: DatasetFacts, draws: Draws) -> Samples:
    """Each sample, with a probability of the step's rate, gets the label of a sample drawn from all.

    So a class is drawn by its size after a long tail, the present one included, and expected class sizes
    stay as they are: Dynamic Loss's noise (Jiang et al., TPAMI 2023, by its code).
    """
    labels, size = samples.labels, len(samples.labels)
    chosen = draws.own.random(size) < step.value
    return samples.labelled(np.where(chosen, labels[draws.own.integers(size, size=size)], labels))
