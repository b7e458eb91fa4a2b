"""What a bias works on: the training samples that are left, with all that their labels are drawn from."""

import dataclasses
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from cmw_pipeline.config.bias_names import BiasStep
from cmw_pipeline.config.datasets import DatasetFacts
from cmw_pipeline.types import Candidates, Labels


@dataclass(frozen=True)
class Samples:
    """The n samples that are left of the N training samples; all arrays have one row for each."""

    rows: npt.NDArray[np.int64]
    """(n,) their places among the training samples."""
    labels: Labels
    """(n,) as the steps so far left them; where candidates hide them, one of those, drawn uniformly."""
    given: Labels | None = None
    """(n,) labels of a label file."""
    posterior: npt.NDArray[np.floating] | None = None
    """(n, K) probabilities that a teacher gives to the classes."""
    candidates: Candidates | None = None
    """(n, K) True for each class that the label may be."""
    hidden: Labels | None = None
    """(n,) the labels that the candidates hide."""
    factor: float | None = None
    """F of feature-dependent noise, where some was drawn."""

    def only(self, chosen: npt.NDArray[np.bool_]) -> "Samples":
        """Those where ``chosen``, (n,), is True."""
        parts: dict[str, Any] = {
            name: value[chosen] for name, value in vars(self).items() if isinstance(value, np.ndarray)
        }
        return dataclasses.replace(self, **parts)

    def labelled(self, labels: Labels) -> "Samples":
        """The same samples with these labels, (n,)."""
        return dataclasses.replace(self, labels=labels)

    def behind(self, candidates: Candidates, drawn: Labels) -> "Samples":
        """The same samples, labels hidden in candidate sets, (n, K), a ``drawn`` one in the place of each."""
        return dataclasses.replace(self, labels=drawn, candidates=candidates, hidden=self.labels)


@dataclass(frozen=True)
class Draws:
    """What a step draws from."""

    own: np.random.Generator
    """The stream of this step alone."""
    published: np.random.RandomState
    """A generator of NumPy's old kind, which the steps of PLC's hybrid noise share, as in its code."""


class Draw(Protocol):
    """One way to bias labels; :data:`~cmw_pipeline.config.bias_kinds.KINDS` names them."""

    def __call__(self, samples: Samples, step: BiasStep, facts: DatasetFacts, draws: Draws) -> Samples:
        """The samples that the step leaves, as it leaves them.

        Raises:
            KeyError: the dataset has no class map or published factor that the step names.
            ConfigError: the step cannot be done on these samples.
            ValueError: what the step reads is not there.
        """
        ...
