"""MCW: class-balanced weights with a meta-learned correction a sample (Jamal et al., CVPR 2020)."""

import torch
from torch import nn

from cmw_pipeline.config.weightings import Mcw as Options
from cmw_pipeline.methods.problem import Problem
from cmw_pipeline.methods.weightings.base import Weighting, Weights
from cmw_pipeline.methods.weightings.effective_number import class_balanced_weights


class Mcw(Weighting):
    """w_i = a_{y_i} + ε_i: a from the effective number of samples, ε one gradient step from zero.

    Without clipping or normalisation. The published code's virtual step takes the sum of the weighted
    losses, its real step their mean.
    """

    def __init__(self, options: Options, problem: Problem) -> None:
        super().__init__(options, problem)
        self.step = options.step
        self.class_weights = nn.Buffer(class_balanced_weights(problem.class_counts, options.beta))
        self.epsilon = torch.empty(0)
        self.correction: torch.Tensor | float = 0.0

    def theta(self, labels: torch.Tensor) -> list[torch.Tensor]:
        """(B,) zeros: the corrections."""
        self.epsilon = torch.zeros(len(labels), device=labels.device, requires_grad=True)
        return [self.epsilon]

    def virtual_weights(self, losses: torch.Tensor, labels: torch.Tensor) -> Weights:
        """a_{y_i} + ε_i, for the sum."""
        return Weights(self.class_weights[labels] + self.epsilon, "none")

    def learn(self, gradient: list[torch.Tensor]) -> None:
        """One step from zero."""
        self.correction = -self.step * gradient[0]

    def weights(self, losses: torch.Tensor, labels: torch.Tensor) -> Weights:
        """The weight of each label's class, with the correction of this batch where there was a meta step."""
        correction, self.correction = self.correction, 0.0
        return Weights(self.class_weights[labels] + correction)
