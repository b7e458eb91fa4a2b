"""A whole bias: its steps one after the other, each with a random stream of its own."""

import numpy as np
import numpy.typing as npt

from cmw_pipeline.bias.asymmetric import asymmetric
from cmw_pipeline.bias.long_tail import long_tail
from cmw_pipeline.bias.symmetric import symmetric
from cmw_pipeline.config.bias_names import BiasStep
from cmw_pipeline.config.datasets import FACTS, class_map
from cmw_pipeline.runtime.seeds import stream
from cmw_pipeline.types import Labels


def apply_bias(
    clean: Labels, steps: tuple[BiasStep, ...], source: str, seed: int
) -> tuple[Labels, npt.NDArray[np.bool_]]:
    """Bias the labels of a training set.

    A noise step works on the labels that the step before it left, and only on the samples that the long
    tail kept. Its stream depends on ``seed``, ``source``, its position and its name, so nothing that is
    drawn elsewhere changes it.

    Args:
        clean: (N,) class ids of the training samples; not changed.
        steps: the bias; a long tail, if any, goes first.
        source: the dataset in :data:`~cmw_pipeline.config.datasets.FACTS` that the labels are of.
        seed: the seed of the bias, not of training.

    Returns:
        (N,) labels, those of dropped samples clean; and (N,) True where the long tail kept the sample.

    Raises:
        KeyError: the dataset has no class map that an asymmetric step names.
    """
    labels, kept = clean.copy(), np.ones(len(clean), dtype=np.bool_)
    num_classes = FACTS[source].num_classes
    for position, step in enumerate(steps):
        rng = stream(seed, "inject", source, position, step.name)
        if step.kind == "lt":
            kept = long_tail(clean, step.value, num_classes, rng)
        else:
            labels[kept] = _noise(labels[kept], step, source, rng)
    return labels, kept


def _noise(labels: Labels, step: BiasStep, source: str, rng: np.random.Generator) -> Labels:
    if step.kind == "sym":
        other = step.variant == "other"
        return symmetric(labels, step.value, FACTS[source].num_classes, rng, other=other)
    return asymmetric(labels, step.value, class_map(source, step.variant), rng)
