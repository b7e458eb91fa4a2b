"""A whole bias: its steps one after the other, each with a random stream of its own."""

from dataclasses import dataclass
from pkgutil import resolve_name

import numpy as np
import numpy.typing as npt

from cmw_pipeline.bias.samples import Draw, Draws, Samples
from cmw_pipeline.config.bias_names import BiasStep
from cmw_pipeline.config.datasets import DatasetFacts
from cmw_pipeline.runtime.seeds import stream
from cmw_pipeline.types import Candidates, Labels


@dataclass(frozen=True)
class Biased:
    """The training set after a bias."""

    labels: Labels
    """(N,), the clean ones where a sample is not kept."""
    kept: npt.NDArray[np.bool_]
    """(N,) True where the sample is trained on."""
    candidates: Candidates | None
    """(N, K) the sets that hide the labels, empty where a sample is not kept; None where none are hidden."""
    factor: float | None
    """F of feature-dependent noise, where some was drawn."""


def apply_bias(
    clean: Labels,
    steps: tuple[BiasStep, ...],
    facts: DatasetFacts,
    seed: int,
    *,
    given: Labels | None = None,
    posterior: npt.NDArray[np.floating] | None = None,
) -> Biased:
    """Bias the labels of a training set.

    A step works on the labels that the step before it left, and only on the samples that are left. Its
    stream depends on ``seed``, the dataset, its position and its name, so nothing that is drawn elsewhere
    changes it. Steps ``plc:sym`` and ``plc:asym`` draw from NumPy's ``RandomState(seed)``, as the published
    ones did with seed 1.

    Args:
        clean: (N,) class ids of the training samples; not changed.
        steps: the bias.
        facts: of the dataset that the labels are of.
        seed: the seed of the bias, not of training.
        given: (M,) labels of a label file for the first M <= N samples; the others are not trained on.
        posterior: (N, K) probabilities that a teacher gives to the classes of each sample.

    Raises:
        KeyError: the dataset has no class map or published factor that a step names.
        ConfigError: the teacher's posterior cannot give the wanted level.
        ValueError: the labels or the posterior that a step reads are not there.
    """
    covered = slice(None if given is None else len(given))
    rows = np.arange(len(clean))[covered]
    seen = None if posterior is None else posterior[covered]
    samples, published = Samples(rows, clean[covered], given, seen), np.random.RandomState(seed)
    for position, step in enumerate(steps):
        own = stream(seed, "inject", facts.name, position, step.name)
        samples = draw_of(step)(samples, step, facts, Draws(own, published))
    return _spread(clean, samples)


def draw_of(step: BiasStep) -> Draw:
    """The function that the step's kind and variant name."""
    found: Draw = resolve_name(f"cmw_pipeline.bias.{step.way.draw}")
    return found


def _spread(clean: Labels, samples: Samples) -> Biased:
    """The samples that are left in their places among all."""
    labels, kept, candidates = clean.copy(), np.zeros(len(clean), dtype=np.bool_), None
    labels[samples.rows], kept[samples.rows] = samples.labels, True
    if samples.candidates is not None:
        candidates = np.zeros((len(clean), samples.candidates.shape[1]), dtype=np.bool_)
        candidates[samples.rows] = samples.candidates
    return Biased(labels, kept, candidates, samples.factor)
