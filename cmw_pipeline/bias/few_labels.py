"""Few labels: a set of samples keeps its labels, balanced or in proportion; the others keep none."""

import numpy as np
import numpy.typing as npt

from cmw_pipeline.bias.partial import draw_candidates
from cmw_pipeline.bias.samples import Draws, Samples
from cmw_pipeline.config.bias_names import BiasStep
from cmw_pipeline.config.datasets import DatasetFacts
from cmw_pipeline.errors import ConfigError
from cmw_pipeline.types import Candidates, Labels


def labelled_sets(labels: Labels, count: int, num_classes: int, rng: np.random.Generator) -> Candidates:
    """Keep ``count`` labels, equally many of each class, drawn uniformly within it.

    Args:
        labels: (N,) class ids in [0, num_classes).
        count: a multiple of ``num_classes``.
        num_classes: C.
        rng: the stream to draw from.

    Returns:
        (N, C) candidate sets: the label alone where it is kept, every class where it is not.

    Raises:
        ConfigError: the count cannot be divided evenly, or a class has too few samples.
    """
    per_class, rest = divmod(count, num_classes)
    smallest = int(np.bincount(labels, minlength=num_classes).min())
    if rest or not 0 < per_class <= smallest:
        raise ConfigError(
            f"labels-{count}: not equally many of {num_classes} classes, the smallest of {smallest} samples",
            f"choose a multiple of {num_classes}, up to {smallest * num_classes}",
        )
    return _keeping(labels, np.full(num_classes, per_class), rng)


def labelled_shares(labels: Labels, share: float, num_classes: int, rng: np.random.Generator) -> Candidates:
    """Keep a share of each class's labels, at least one, drawn uniformly within it.

    Args:
        labels: (N,) class ids in [0, num_classes).
        share: from 0 to 1.
        num_classes: C.
        rng: the stream to draw from.

    Returns:
        (N, C) candidate sets, as of :func:`labelled_sets`.
    """
    counts = np.bincount(labels, minlength=num_classes)
    return _keeping(labels, np.minimum(np.maximum(np.rint(share * counts), 1), counts).astype(np.int64), rng)


def _keeping(labels: Labels, per_class: npt.NDArray[np.int64], rng: np.random.Generator) -> Candidates:
    num_classes = len(per_class)
    order = rng.permutation(len(labels))
    by_class = order[np.argsort(labels[order], kind="stable")]
    starts = np.searchsorted(labels[by_class], np.arange(num_classes))
    chosen = by_class[np.concatenate([np.arange(a, a + n) for a, n in zip(starts, per_class, strict=True)])]
    candidates = np.ones((len(labels), num_classes), dtype=np.bool_)
    candidates[chosen] = False
    candidates[chosen, labels[chosen]] = True
    return candidates


def draw(samples: Samples, step: BiasStep, facts: DatasetFacts, draws: Draws) -> Samples:
    """Keep as many labels as the step says; where none is kept, every class is a candidate."""
    sets = labelled_sets(samples.labels, int(step.value), facts.num_classes, draws.own)
    return samples.behind(sets, draw_candidates(sets, draws.own))


def draw_share(samples: Samples, step: BiasStep, facts: DatasetFacts, draws: Draws) -> Samples:
    """Keep the share of each class's labels that the step says."""
    sets = labelled_shares(samples.labels, step.value, facts.num_classes, draws.own)
    return samples.behind(sets, draw_candidates(sets, draws.own))
