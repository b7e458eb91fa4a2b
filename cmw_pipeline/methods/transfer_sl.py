"""CMW-Net-SL under a frozen weighting function that was learned elsewhere: how it came to WebVision."""

import torch

from cmw_pipeline.config.methods import TransferSl as Options
from cmw_pipeline.methods.base import Batch, Problem
from cmw_pipeline.methods.parts.soft_labels import SoftLabelled


class TransferSl(SoftLabelled):
    """The weight is the given function of (loss, group), what it leaves goes to the soft label; no meta step.

    Classes are grouped by their size in the training set at hand, smallest group first, as when the
    function was learned.
    """

    steady = True
    divisible = True

    def __init__(self, options: Options, problem: Problem) -> None:
        super().__init__(options, problem)
        assert problem.weighting is not None, "a transfer needs the function it transfers"
        self.weighting = problem.weighting.for_classes(problem.class_counts.cpu().numpy())
        self.start_soft_labels(options, options.normalisation, problem)

    def trust(self, losses: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """(B,) frozen V(loss, group)."""
        return self.weighting.weigh(losses, self.weighting.groups[labels])

    def weights(self, losses: torch.Tensor, batch: Batch) -> torch.Tensor:
        """(B,) frozen V(loss, group)."""
        return self.trust(losses, batch.labels)
