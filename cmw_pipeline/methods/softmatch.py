"""SoftMatch: FixMatch with a soft weight in the place of its threshold (Chen et al., ICLR 2023)."""

import torch
from torch import nn

from cmw_pipeline.config.methods.tasks import SoftMatch as Options
from cmw_pipeline.methods.base import Batch, Problem
from cmw_pipeline.methods.parts.pseudo_labels import MEMORY, PseudoLabels


class SoftMatch(PseudoLabels):
    """A guess counts for exp(−n² min(c − μ, 0)² / 2 s²), c its confidence, of running mean μ and variance s².

    c is that of the prediction after it was brought to an even mean over the classes; the guess is not.
    """

    def __init__(self, options: Options, problem: Problem) -> None:
        super().__init__(options, problem)
        self.steepness = options.steepness
        self.prediction_mean = nn.Buffer(torch.full((self.num_classes,), 1 / self.num_classes))
        self.mean = nn.Buffer(torch.full((), 1 / self.num_classes))
        self.variance = nn.Buffer(torch.ones(()))

    def sure(self, probabilities: torch.Tensor, batch: Batch) -> torch.Tensor:
        """(U,) from 0 to 1, by means that hold this batch, too."""
        self.prediction_mean.lerp_(probabilities.mean(dim=0).to(self.prediction_mean), 1 - MEMORY)
        aligned = probabilities / self.prediction_mean.to(probabilities)
        confidence = (aligned / aligned.sum(dim=1, keepdim=True)).amax(dim=1)
        self.mean.lerp_(confidence.mean().to(self.mean), 1 - MEMORY)
        self.variance.lerp_(confidence.var().to(self.variance), 1 - MEMORY)
        below = (confidence - self.mean).clamp(max=0)
        return torch.exp(-((self.steepness * below) ** 2) / (2 * self.variance)).to(probabilities)
