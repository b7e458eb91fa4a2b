"""Training under a frozen weighting function that was learned elsewhere."""

import torch

from cmw_pipeline.config.methods import Transfer as Options
from cmw_pipeline.methods.base import Batch, Method, Problem, weighted_mean


class Transfer(Method):
    """The weight is the given function of (loss, group); no meta-set and no meta step.

    Classes are grouped by their size in the training set at hand, smallest group first, as when the
    function was learned.
    """

    steady = True

    def __init__(self, options: Options, problem: Problem) -> None:
        super().__init__(options, problem)
        assert problem.weighting is not None, "a transfer needs the function it transfers"
        self.normalisation = options.normalisation
        self.weighting = problem.weighting.for_classes(problem.class_counts.cpu().numpy())

    def weights(self, losses: torch.Tensor, batch: Batch) -> torch.Tensor:
        """(B,) frozen V(loss, group)."""
        return self.weighting.weigh(losses, self.weighting.groups[batch.labels])

    def objective(self, logits: torch.Tensor, batch: Batch) -> torch.Tensor:
        """The weighted mean of the losses."""
        losses = self.losses(logits, batch)
        if not self.active:
            return losses.mean()
        return weighted_mean(losses, self.weights(losses.detach(), batch), self.normalisation)
