"""Feature-dependent label noise: the less sure a teacher is of a sample, the likelier its second choice."""

import dataclasses

import numpy as np
import numpy.typing as npt

from cmw_pipeline.bias.samples import Draws, Samples
from cmw_pipeline.config.bias_names import BiasStep
from cmw_pipeline.config.datasets import DatasetFacts
from cmw_pipeline.errors import ConfigError
from cmw_pipeline.types import Floats, Labels

_ROUNDING = 1e-9


def top_two(posterior: npt.NDArray[np.floating]) -> tuple[Labels, Labels, Floats]:
    """The two most probable classes of each sample, and how far they are apart.

    Args:
        posterior: (N, K) probabilities, K >= 2, of any float type.

    Returns:
        (N,) first and (N,) second class, the lower id first where two are equal; and (N,) margin, the
        difference of their probabilities, in [0, 1].

    >>> first, second, margin = top_two(np.array([[0.125, 0.25, 0.625]]))
    >>> first.tolist(), second.tolist(), margin.tolist()
    ([2], [1], [0.375])
    """
    exact = posterior.astype(np.float64)
    order = np.argsort(-exact, axis=1, kind="stable")[:, :2]
    pair = np.take_along_axis(exact, order, axis=1)
    return order[:, 0].astype(np.int16), order[:, 1].astype(np.int16), pair[:, 0] - pair[:, 1]


def keep_probability(kind: str, margin: Floats) -> Floats:
    """The probability of the teacher's first choice before it is divided by the factor.

    With d the margin: Type I 1/2 + d^2/2, Type II d^3, Type III (d^3 + d^2 + d)/3 (PLC: Zhang et al.,
    ICLR 2021, and its code).

    Args:
        kind: ``type1``, ``type2`` or ``type3``.
        margin: (N,) in [0, 1].

    Returns:
        (N,) in [0, 1].

    >>> [keep_probability(kind, np.array([0.5])).tolist()[0] for kind in ("type1", "type2")]
    [0.625, 0.125]
    """
    d = margin
    if kind == "type1":
        return 0.5 + d**2 / 2
    return d**3 if kind == "type2" else (d**3 + d**2 + d) / 3


def solve_factor(kind: str, posterior: npt.NDArray[np.floating], labels: Labels, level: float) -> float:
    """The factor F >= 1 with which the expected level is the wanted one.

    A sample keeps the first choice u with probability p/F and gets the second choice s otherwise, so the
    expected level is the mean of ``[s != y] + (p/F) ([u != y] - [s != y])``: a straight line in 1/F.

    Args:
        kind: ``type1``, ``type2`` or ``type3``.
        posterior: (N, K), the teacher's.
        labels: (N,) the dataset's labels y.
        level: the wanted share of labels that differ from y.

    Raises:
        ConfigError: no factor gives this level; the message says which levels there are.
    """
    highest, slope = _line(kind, posterior, labels)
    inverse = (level - highest) / slope if slope else 0.0
    if not 0 < inverse <= 1 + _ROUNDING:
        low, high = sorted((highest, highest + slope))
        raise ConfigError(
            f"{kind}-{level:g}: this teacher's posterior reaches levels from {low:.4f} to {high:.4f} only",
            "ask for a level between them, or change the teacher: a longer trained one is surer, so that its"
            " lowest level is lower",
        )
    return 1 / min(inverse, 1.0)


def feature_dependent(
    kind: str, posterior: npt.NDArray[np.floating], factor: float, rng: np.random.Generator
) -> Labels:
    """Give each sample the teacher's first or second choice; the dataset's label plays no role.

    Args:
        kind: ``type1``, ``type2`` or ``type3``.
        posterior: (N, K), the teacher's.
        factor: F >= 1; the first choice is kept with the probability of :func:`keep_probability` over F.
        rng: the stream to draw from.

    Returns:
        (N,) new labels.
    """
    first, second, margin = top_two(posterior)
    kept = rng.random(len(first)) < keep_probability(kind, margin) / factor
    return np.where(kept, first, second)


def _line(kind: str, posterior: npt.NDArray[np.floating], labels: Labels) -> tuple[float, float]:
    """The expected level as a + b / F: (a, b)."""
    first, second, margin = top_two(posterior)
    second_wrong = (second != labels).astype(np.float64)
    change = keep_probability(kind, margin) * ((first != labels) - second_wrong)
    return float(second_wrong.mean()), float(change.mean())


def at_level(samples: Samples, step: BiasStep, facts: DatasetFacts, draws: Draws) -> Samples:
    """Noise of the step's type with the factor that gives its level."""
    posterior = _posterior(samples, step)
    factor = solve_factor(step.kind, posterior, samples.labels, step.value)
    return _drawn(samples, step, posterior, factor, draws)


def as_published(samples: Samples, step: BiasStep, facts: DatasetFacts, draws: Draws) -> Samples:
    """Noise of the step's type with the published factor."""
    return _drawn(samples, step, _posterior(samples, step), facts.factor(step), draws)


def _posterior(samples: Samples, step: BiasStep) -> npt.NDArray[np.floating]:
    if samples.posterior is None:
        raise ValueError(f"{step.name} needs a teacher's posterior")
    return samples.posterior


def _drawn(
    samples: Samples, step: BiasStep, posterior: npt.NDArray[np.floating], factor: float, draws: Draws
) -> Samples:
    labels = feature_dependent(step.kind, posterior, factor, draws.own)
    return dataclasses.replace(samples, labels=labels, factor=factor)
