"""A whole bias: its steps one after the other, each with a random stream of its own."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cmw_pipeline.bias.asymmetric import asymmetric
from cmw_pipeline.bias.feature_dependent import feature_dependent, solve_factor
from cmw_pipeline.bias.few_labels import labelled_sets
from cmw_pipeline.bias.long_tail import long_tail
from cmw_pipeline.bias.partial import candidate_sets, draw_candidates
from cmw_pipeline.bias.symmetric import symmetric
from cmw_pipeline.bias.transition import asymmetric_matrix, symmetric_matrix, transition
from cmw_pipeline.config.bias_names import HIDING, BiasStep, tail_of_the_unlabelled
from cmw_pipeline.config.datasets import FACTS, class_map
from cmw_pipeline.config.label_files import published_factor
from cmw_pipeline.runtime.seeds import stream
from cmw_pipeline.types import Candidates, Labels


@dataclass(frozen=True)
class Evidence:
    """What a bias draws on besides the labels; each is needed by some steps only."""

    given: Labels | None = None
    """(M,) labels of a label file for the first M <= N samples; the other samples are not trained on."""
    posterior: npt.NDArray[np.floating] | None = None
    """(N, K) probabilities that a teacher gives to the classes of each sample."""


def apply_bias(
    clean: Labels,
    steps: tuple[BiasStep, ...],
    source: str,
    seed: int,
    evidence: Evidence = Evidence(),
) -> tuple[Labels, npt.NDArray[np.bool_]]:
    """Bias the labels of a training set.

    A noise step works on the labels that the step before it left, and only on the samples that the long
    tail kept. Its stream depends on ``seed``, ``source``, its position and its name, so nothing that is
    drawn elsewhere changes it. Steps ``plc:sym`` and ``plc:asym`` draw from NumPy's ``RandomState(seed)``,
    as the published ones did with seed 1. Candidate sets are not drawn here but by :func:`hide_labels`.

    Args:
        clean: (N,) class ids of the training samples; not changed.
        steps: the bias; a long tail, if any, goes first; one of the unlabelled is not seen to here.
        source: the dataset in :data:`~cmw_pipeline.config.datasets.FACTS` that the labels are of.
        seed: the seed of the bias, not of training.
        evidence: what :func:`~cmw_pipeline.config.bias_names.needs` says that the steps need.

    Returns:
        (N,) labels, those of dropped samples clean; and (N,) True where the sample is kept.

    Raises:
        KeyError: the dataset has no class map or published factor that a step names.
        ConfigError: the teacher's posterior cannot give the wanted level.
        ValueError: the evidence that a step needs is not there.
    """
    labels, kept = clean.copy(), np.ones(len(clean), dtype=np.bool_)
    if evidence.given is not None:
        kept[len(evidence.given) :] = False
    published = np.random.RandomState(seed)
    for position, step in enumerate(steps[:-1] if tail_of_the_unlabelled(steps) else steps):
        rng = stream(seed, "inject", source, position, step.name)
        if step.kind == "lt":
            kept[kept] = long_tail(clean[kept], step.value, FACTS[source].num_classes, rng)
        elif step.kind in HIDING:
            continue
        elif step.reads:
            labels[kept] = _replaced(labels, kept, step, source, evidence, rng)
        elif step.variant == "plc":
            labels[kept] = transition(labels[kept], _matrix(step, source), published)
        else:
            labels[kept] = _noise(labels[kept], step, source, rng)
    return labels, kept


def hide_labels(
    labels: Labels, steps: tuple[BiasStep, ...], source: str, seed: int
) -> tuple[Labels, Candidates, npt.NDArray[np.bool_]] | None:
    """Hide labels in candidate sets, if the bias ends with that.

    Args:
        labels: (N,) of the training samples that :func:`apply_bias` keeps.
        steps: the bias.
        source: the dataset.
        seed: of the bias.

    Returns:
        (N,) labels drawn uniformly from the candidates, which tell no more than those do; the candidates,
        (N, K); and (N,) True where the sample is kept by the long tail of the unlabelled, if there is one.
        None where the labels are not hidden.
    """
    tail = steps[-1] if tail_of_the_unlabelled(steps) else None
    hiding = steps[:-1] if tail else steps
    if not hiding or hiding[-1].kind not in HIDING:
        return None
    rng = stream(seed, "inject", source, len(hiding) - 1, hiding[-1].name)
    num_classes, value = FACTS[source].num_classes, hiding[-1].value
    if hiding[-1].kind == "labels":
        candidates = labelled_sets(labels, int(value), num_classes, rng)
    else:
        candidates = candidate_sets(labels, value, num_classes, rng)
    drawn, kept = draw_candidates(candidates, rng), np.ones(len(labels), dtype=np.bool_)
    if tail:
        rng = stream(seed, "inject", source, len(steps) - 1, tail.name)
        unlabelled = candidates.all(axis=1)
        kept[unlabelled] = long_tail(labels[unlabelled], tail.value, num_classes, rng)
    return drawn, candidates, kept


def factor(step: BiasStep, source: str, posterior: npt.NDArray[np.floating], labels: Labels) -> float:
    """The factor of a feature-dependent step: the published one, or the one that gives its level.

    Args:
        step: of a kind in :data:`~cmw_pipeline.config.bias_names.GENERATED`.
        source: the dataset.
        posterior: (N, K) of the samples that training keeps.
        labels: (N,) their clean labels.
    """
    if step.variant == "published":
        return published_factor(source, step)
    return solve_factor(step.kind, posterior, labels, step.value)


def _replaced(
    labels: Labels,
    kept: npt.NDArray[np.bool_],
    step: BiasStep,
    source: str,
    evidence: Evidence,
    rng: np.random.Generator,
) -> Labels:
    """The labels of the kept samples, from a file or drawn from a posterior."""
    if step.reads == "labels":
        if evidence.given is None:
            raise ValueError(f"{step.name} needs the labels of a file")
        return evidence.given[kept[: len(evidence.given)]]
    if evidence.posterior is None:
        raise ValueError(f"{step.name} needs a teacher's posterior")
    posterior = evidence.posterior[kept]
    return feature_dependent(step.kind, posterior, factor(step, source, posterior, labels[kept]), rng)


def _matrix(step: BiasStep, source: str) -> npt.NDArray[np.float64]:
    num_classes = FACTS[source].num_classes
    if step.kind == "sym":
        return symmetric_matrix(step.value, num_classes)
    return asymmetric_matrix(step.value, class_map(source, step.variant), num_classes)


def _noise(labels: Labels, step: BiasStep, source: str, rng: np.random.Generator) -> Labels:
    if step.kind == "sym":
        other = step.variant == "other"
        return symmetric(labels, step.value, FACTS[source].num_classes, rng, other=other)
    return asymmetric(labels, step.value, class_map(source, step.variant), rng)
