"""Class-balanced loss: weights from the effective number of samples of a class (Cui et al., CVPR 2019)."""

import torch
from torch import nn

from cmw_pipeline.config.methods.losses import ClassBalanced as Options
from cmw_pipeline.methods.base import Batch, Method, Problem, weighted_mean
from cmw_pipeline.methods.parts.losses import class_balanced_weights, cross_entropy, focal


class ClassBalanced(Method):
    """Cross-entropy or focal loss; a sample weighs what its class does."""

    def __init__(self, options: Options, problem: Problem) -> None:
        super().__init__(options, problem)
        plain = options.gamma == 0 and options.form == "softmax"
        self.sample_loss = cross_entropy if plain else focal(options.gamma, options.form)
        self.normalisation = options.normalisation
        self.class_weights = nn.Buffer(class_balanced_weights(problem.class_counts, options.beta))

    def losses(self, logits: torch.Tensor, batch: Batch) -> torch.Tensor:
        """(B,) loss with the given label."""
        return self.sample_loss(logits, batch.labels) if self.active else super().losses(logits, batch)

    def weights(self, losses: torch.Tensor, batch: Batch) -> torch.Tensor:
        """(B,) weight of the class of the given label."""
        return self.class_weights[batch.labels]

    def objective(self, logits: torch.Tensor, batch: Batch) -> torch.Tensor:
        """The weighted mean of the losses."""
        losses = self.losses(logits, batch)
        if not self.active:
            return losses.mean()
        return weighted_mean(losses, self.weights(losses, batch), self.normalisation)
