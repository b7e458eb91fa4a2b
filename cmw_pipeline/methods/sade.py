"""SADE: three experts, each trained for another prior of the classes (Zhang et al., NeurIPS 2022).

At an even prior the experts' logits are averaged; the weights that the paper learns at test time are for
other priors, and are left out.
"""

import torch

from cmw_pipeline.config.methods.losses import Sade as Options
from cmw_pipeline.methods.base import Batch, Method, Problem
from cmw_pipeline.methods.parts.losses import sade, several_cross_entropies


class Sade(Method):
    """The sum of the experts' losses; before ``start_epoch`` each has plain cross-entropy."""

    def __init__(self, options: Options, problem: Problem) -> None:
        super().__init__(options, problem)
        self.loss = sade(problem.class_counts, options.strength)

    def losses(self, logits: torch.Tensor, batch: Batch) -> torch.Tensor:
        """(B,) the experts' losses with the given label, summed."""
        loss = self.loss if self.active else several_cross_entropies
        return loss(logits, batch.labels)
