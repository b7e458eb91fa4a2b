"""Partial labels: instead of a label, a set of candidates that the label is among."""

import numpy as np

from cmw_pipeline.bias.samples import Draws, Samples
from cmw_pipeline.config.bias_names import BiasStep
from cmw_pipeline.config.datasets import DatasetFacts
from cmw_pipeline.types import Candidates, Labels


def candidate_sets(labels: Labels, rate: float, num_classes: int, rng: np.random.Generator) -> Candidates:
    """Hide each label among others: every other class joins with probability ``rate``, each by itself.

    Where none has joined, one drawn uniformly does, so every set has at least two classes, as in PRODEN
    (Lv et al., ICML 2020) and in Fig. 9 of CMW-Net (TPAMI 2023).

    Args:
        labels: (N,) class ids in [0, num_classes).
        rate: in [0, 1].
        num_classes: C >= 2.
        rng: the stream to draw from.

    Returns:
        (N, C) True for each candidate.
    """
    rows = np.arange(len(labels))
    joined = rng.random((len(labels), num_classes)) < rate
    step = rng.integers(1, num_classes, size=len(labels))
    joined[rows, labels] = False
    alone = ~joined.any(axis=1)
    joined[rows[alone], ((labels + step) % num_classes)[alone]] = True
    joined[rows, labels] = True
    return joined


def draw_candidates(candidates: Candidates, rng: np.random.Generator) -> Labels:
    """(N,) one of each sample's candidates, all equally likely: what may stand in for the hidden label."""
    drawn: Labels = np.where(candidates, rng.random(candidates.shape), -1.0).argmax(axis=1).astype(np.int16)
    return drawn


def draw(samples: Samples, step: BiasStep, facts: DatasetFacts, draws: Draws) -> Samples:
    """Hide the labels in candidate sets, which other classes join at the step's rate."""
    sets = candidate_sets(samples.labels, step.value, facts.num_classes, draws.own)
    return samples.behind(sets, draw_candidates(sets, draws.own))
