"""FreeMatch: FixMatch whose thresholds are learned, and guesses are kept fair (Wang et al., ICLR 2023)."""

import torch
import torch.nn.functional as F
from torch import nn

from cmw_pipeline.config.methods.tasks import FreeMatch as Options
from cmw_pipeline.methods.base import Batch, Problem
from cmw_pipeline.methods.parts.losses import hits
from cmw_pipeline.methods.parts.pseudo_labels import MEMORY, PseudoLabels


class FreeMatch(PseudoLabels):
    """A guess j counts from τ P_j / max P on: τ the mean confidence, P the mean prediction, both running.

    Fairness adds w Σ_k A_k log B_k: A ∝ P / H, B ∝ the mean prediction on strong views of counted guesses, in
    the histogram of what is predicted there; H is the running histogram of guesses, and 1/0 is 0.
    """

    def __init__(self, options: Options, problem: Problem) -> None:
        super().__init__(options, problem)
        even = torch.full((self.num_classes,), 1 / self.num_classes)
        self.weight = options.fairness
        self.confidence_mean = nn.Buffer(even[0].clone())
        self.prediction_mean = nn.Buffer(even.clone())
        self.histogram = nn.Buffer(even.clone())

    def sure(self, probabilities: torch.Tensor, batch: Batch) -> torch.Tensor:
        """(U,) 1 or 0, by means that hold this batch, too."""
        confidence, guesses = probabilities.max(dim=1)
        share = hits(probabilities, guesses).to(probabilities).mean(dim=0)
        news = confidence.mean(), probabilities.mean(dim=0), share
        for old, new in zip((self.confidence_mean, self.prediction_mean, self.histogram), news, strict=True):
            old.lerp_(new.to(old), 1 - MEMORY)
        relative = self.prediction_mean / self.prediction_mean.max()
        return (confidence >= self.confidence_mean * relative[guesses]).to(probabilities)

    def fairness(self, strong: torch.Tensor) -> torch.Tensor | float:
        """Scalar w Σ_k A_k log B_k."""
        p = strong.softmax(dim=1)
        counted = self.current[:, None] / self.current.sum().clamp(min=1)
        shown = (counted * hits(p, strong.argmax(dim=1))).sum(dim=0)
        ours = F.normalize(self.prediction_mean * _inverse(self.histogram), p=1, dim=0)
        theirs = F.normalize((counted * p).sum(dim=0) * _inverse(shown), p=1, dim=0)
        counts = (self.current.sum() > 0).to(p)
        return self.weight * counts * (ours.to(p) * (theirs + 1e-12).log()).sum()


def _inverse(values: torch.Tensor) -> torch.Tensor:
    """1/x, and 0 of 0."""
    return torch.where(values > 0, 1 / values, 0.0)
