"""A weighting function that was learned elsewhere, frozen: how CMW-Net came to WebVision."""

import torch

from cmw_pipeline.config.weightings import Frozen as Options
from cmw_pipeline.methods.problem import Problem
from cmw_pipeline.methods.weightings.base import Weighting, Weights


class Frozen(Weighting):
    """The weight is the given function of (loss, group); no meta-set and no meta step.

    Classes are grouped by their size in the training set at hand, smallest group first, as when the
    function was learned.
    """

    def __init__(self, options: Options, problem: Problem) -> None:
        super().__init__(options, problem)
        assert problem.weighting is not None, "a transfer needs the function it transfers"
        self.normalisation = options.normalisation
        self.function = problem.weighting.for_classes(problem.class_counts.cpu().numpy())

    def weights(self, losses: torch.Tensor, labels: torch.Tensor) -> Weights:
        """V(loss, group), frozen."""
        return Weights(self.function.weigh(losses, self.function.groups[labels]), self.normalisation)
