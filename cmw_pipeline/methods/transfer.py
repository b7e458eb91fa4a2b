"""Training under a frozen weighting function that was learned elsewhere."""

import torch

from cmw_pipeline.config.schema import Transfer as Options
from cmw_pipeline.meta.weighting import WeightingFunction
from cmw_pipeline.methods.base import Batch, Method, Problem


class Transfer(Method):
    """The weight is the given function of (loss, group); no meta-set and no meta step.

    Classes are grouped by their size in the training set at hand, smallest group first, as when the
    function was learned.
    """

    def __init__(self, options: Options, problem: Problem, weighting: WeightingFunction) -> None:
        super().__init__(options, problem)
        self.weighting = weighting.for_classes(problem.class_counts.cpu().numpy())

    def weights(self, losses: torch.Tensor, batch: Batch) -> torch.Tensor:
        """(B,) frozen V(loss, group)."""
        return self.weighting.weigh(losses, self.weighting.groups[batch.labels])
