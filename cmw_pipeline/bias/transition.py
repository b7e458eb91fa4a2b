"""Label noise as one draw a sample from its label's row of a transition matrix, as PLC's code draws it."""

import numpy as np

from cmw_pipeline.bias.samples import Draws, Samples
from cmw_pipeline.config.bias_names import BiasStep
from cmw_pipeline.config.datasets import ClassMap, DatasetFacts
from cmw_pipeline.types import Floats, Labels


def symmetric_matrix(rate: float, num_classes: int) -> Floats:
    """(C, C) rows that keep the label with 1 - rate and give each other class rate / (C - 1).

    >>> symmetric_matrix(0.5, 3).tolist()
    [[0.5, 0.25, 0.25], [0.25, 0.5, 0.25], [0.25, 0.25, 0.5]]
    """
    matrix = np.full((num_classes, num_classes), rate / (num_classes - 1))
    np.fill_diagonal(matrix, 1.0 - rate)
    return matrix


def asymmetric_matrix(rate: float, class_map: ClassMap, num_classes: int) -> Floats:
    """(C, C) rows that send a class of the map along it with probability rate, and keep the others.

    >>> asymmetric_matrix(0.25, {0: 2}, 3).tolist()
    [[0.75, 0.0, 0.25], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
    """
    matrix = np.eye(num_classes)
    for source, target in class_map.items():
        matrix[source, source], matrix[source, target] = 1.0 - rate, rate
    return matrix


def transition(labels: Labels, matrix: Floats, rng: np.random.RandomState) -> Labels:
    """Draw a new label for each sample, in their order, one multinomial draw each.

    With ``RandomState(1)`` on PLC's label files these are the hybrid labels that CMW-Net was trained on
    (its script's seed; the draw is that of PLC's ``cifar/noise.py``).

    Args:
        labels: (N,) class ids in [0, C); not changed.
        matrix: (C, C), rows sum to 1.
        rng: a generator of NumPy's old kind, whose draws are the published ones.

    Returns:
        (N,) new labels.
    """
    drawn = [rng.multinomial(1, matrix[label]).argmax() for label in labels]
    return np.array(drawn, dtype=np.int16)


def draw_symmetric(samples: Samples, step: BiasStep, facts: DatasetFacts, draws: Draws) -> Samples:
    """The symmetric half of PLC's hybrid noise."""
    matrix = symmetric_matrix(step.value, facts.num_classes)
    return samples.labelled(transition(samples.labels, matrix, draws.published))


def draw_asymmetric(samples: Samples, step: BiasStep, facts: DatasetFacts, draws: Draws) -> Samples:
    """The asymmetric half of PLC's hybrid noise."""
    matrix = asymmetric_matrix(step.value, facts.class_map(step.variant), facts.num_classes)
    return samples.labelled(transition(samples.labels, matrix, draws.published))
