"""Asymmetric label noise: a class is mistaken for the one it resembles."""

import numpy as np

from cmw_pipeline.bias.samples import Draws, Samples
from cmw_pipeline.config.bias_names import BiasStep
from cmw_pipeline.config.datasets import ClassMap, DatasetFacts
from cmw_pipeline.types import Labels


def asymmetric(labels: Labels, rate: float, class_map: ClassMap, rng: np.random.Generator) -> Labels:
    """Choose ``int(rate * N)`` samples uniformly over the whole set and send each along the class map.

    Chosen samples of a class outside the map keep their label, as in the official code of CMW-Net and
    DivideMix: the one-way map of CIFAR-10 (four of ten classes) changes ``0.4 * rate`` of all labels.

    Args:
        labels: (N,) class ids; not changed.
        rate: in [0, 1].
        class_map: class -> the class it is mistaken for.
        rng: the stream to draw from.

    Returns:
        (N,) new labels.
    """
    noisy = labels.copy()
    chosen = rng.permutation(len(labels))[: int(rate * len(labels))]
    for source, target in class_map.items():
        noisy[chosen[labels[chosen] == source]] = target
    return noisy


def draw(samples: Samples, step: BiasStep, facts: DatasetFacts, draws: Draws) -> Samples:
    """Asymmetric noise at the step's rate, along the class map that it names."""
    return samples.labelled(asymmetric(samples.labels, step.value, facts.class_map(step.variant), draws.own))
