"""FlexMatch: FixMatch with a lower threshold for classes that are guessed seldom (Zhang et al., 2021)."""

import torch
from torch import nn

from cmw_pipeline.config.methods.tasks import FlexMatch as Options
from cmw_pipeline.methods.base import Batch, Problem
from cmw_pipeline.methods.parts.pseudo_labels import PseudoLabels


class FlexMatch(PseudoLabels):
    """A guess j counts from τ β_j / (2 − β_j) on, β_j how far the learning of the class has come.

    ``chosen`` (N,) is the last guess of each sample that was as probable as τ; K: none yet. β_j is the number
    of those, in the largest such number of a class or of none yet.
    """

    def __init__(self, options: Options, problem: Problem) -> None:
        super().__init__(options, problem)
        self.threshold = options.threshold
        self.chosen = nn.Buffer(torch.full((self.num_samples,), self.num_classes))

    def sure(self, probabilities: torch.Tensor, batch: Batch) -> torch.Tensor:
        """(U,) 1 or 0; then the guesses are remembered."""
        confidence, guesses = probabilities.max(dim=1)
        beta = self.progress()[guesses]
        counts = (confidence >= self.threshold * beta / (2 - beta)).to(probabilities)
        learned = torch.where(confidence >= self.threshold, guesses, self.chosen[batch.rows])
        self.chosen[batch.rows] = learned
        return counts

    def progress(self) -> torch.Tensor:
        """(K,) β, from 0 to 1."""
        classes = torch.arange(self.num_classes + 1, device=self.chosen.device)
        numbers = (self.chosen[:, None] == classes).sum(dim=0)
        return numbers[:-1] / numbers.max()
