"""LDAM: larger margins for rare classes, and class weights in the last epochs (Cao et al., NeurIPS 2019)."""

import torch
from torch import nn

from cmw_pipeline.config.methods.losses import Ldam as Options
from cmw_pipeline.methods.base import Batch, Method, Problem, weighted_mean
from cmw_pipeline.methods.parts.losses import class_balanced_weights, ldam


class Ldam(Method):
    """Cross-entropy behind a margin on a cosine head; class-balanced from ``reweight_from`` on (DRW)."""

    head = "cosine"

    def __init__(self, options: Options, problem: Problem) -> None:
        super().__init__(options, problem)
        self.sample_loss = ldam(problem.class_counts, options.largest_margin)
        self.normalisation = options.normalisation
        self.reweight_from = options.reweight_from
        self.reweights = options.reweight_from == 0
        self.class_weights = nn.Buffer(class_balanced_weights(problem.class_counts, options.beta))

    def begin_epoch(self, epoch: int) -> None:
        """Note whether the class weights are due."""
        super().begin_epoch(epoch)
        self.reweights = self.reweight_from is not None and epoch >= self.reweight_from

    def losses(self, logits: torch.Tensor, batch: Batch) -> torch.Tensor:
        """(B,) cross-entropy behind the margin of the given label's class."""
        return self.sample_loss(logits, batch.labels) if self.active else super().losses(logits, batch)

    def weights(self, losses: torch.Tensor, batch: Batch) -> torch.Tensor:
        """(B,) weight of the given label's class, or one."""
        return self.class_weights[batch.labels] if self.reweights else torch.ones_like(losses)

    def objective(self, logits: torch.Tensor, batch: Batch) -> torch.Tensor:
        """The mean of the losses, weighted where the class weights are due."""
        losses = self.losses(logits, batch)
        if not (self.active and self.reweights):
            return losses.mean()
        return weighted_mean(losses, self.weights(losses, batch), self.normalisation)
