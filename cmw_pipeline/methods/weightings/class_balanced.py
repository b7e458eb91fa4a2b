"""Class-balanced weights, from the effective number of samples of a class (Cui et al., CVPR 2019)."""

import torch
from torch import nn

from cmw_pipeline.config.weightings import ClassBalanced as Options
from cmw_pipeline.methods.problem import Problem
from cmw_pipeline.methods.weightings.base import Weighting, Weights
from cmw_pipeline.methods.weightings.effective_number import class_balanced_weights


class ClassBalanced(Weighting):
    """A sample weighs what its class does."""

    def __init__(self, options: Options, problem: Problem) -> None:
        super().__init__(options, problem)
        self.normalisation = options.normalisation
        self.class_weights = nn.Buffer(class_balanced_weights(problem.class_counts, options.beta))

    def weights(self, losses: torch.Tensor, labels: torch.Tensor) -> Weights:
        """The weight of each label's class."""
        return Weights(self.class_weights[labels], self.normalisation)
