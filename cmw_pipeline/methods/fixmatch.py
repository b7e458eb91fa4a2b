"""FixMatch: what is guessed with confidence on a weak view is learned on a strong one (NeurIPS 2020)."""

import torch

from cmw_pipeline.config.methods.tasks import FixMatch as Options
from cmw_pipeline.methods.base import Batch, Problem
from cmw_pipeline.methods.parts.pseudo_labels import PseudoLabels


class FixMatch(PseudoLabels):
    """A guess counts where it is at least as probable as the threshold (Sohn et al., NeurIPS 2020)."""

    def __init__(self, options: Options, problem: Problem) -> None:
        super().__init__(options, problem)
        self.threshold = options.threshold

    def sure(self, probabilities: torch.Tensor, batch: Batch) -> torch.Tensor:
        """(U,) 1 or 0."""
        return (probabilities.amax(dim=1) >= self.threshold).to(probabilities)
