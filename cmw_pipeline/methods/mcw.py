"""MCW: class-balanced weights with a meta-learned correction a sample (Jamal et al., CVPR 2020)."""

import torch
from torch import nn

from cmw_pipeline.config.methods.weighting import Mcw as Options
from cmw_pipeline.methods.base import Batch, MetaMethod, Problem
from cmw_pipeline.methods.parts.losses import HEADS, base_loss, class_balanced_weights, early_loss


class Mcw(MetaMethod):
    """w_i = a_{y_i} + ε_i: a from the effective number of samples, ε one gradient step from zero."""

    steady = True

    def __init__(self, options: Options, problem: Problem) -> None:
        super().__init__(options, problem)
        self.head = HEADS[options.base_loss]
        self.sample_loss = base_loss(options.base_loss, problem)
        self.early_loss = early_loss(options.base_loss, self.sample_loss)
        self.step = options.step
        self.class_weights = nn.Buffer(class_balanced_weights(problem.class_counts, options.beta))
        self.epsilon = torch.empty(0)
        self.correction: torch.Tensor | float = 0.0

    def losses(self, logits: torch.Tensor, batch: Batch) -> torch.Tensor:
        """(B,) the base loss with the given label."""
        return (self.sample_loss if self.active else self.early_loss)(logits, batch.labels)

    def weights(self, losses: torch.Tensor, batch: Batch) -> torch.Tensor:
        """(B,) weight of the given label's class, without the correction, which is a batch's own."""
        return self.class_weights[batch.labels]

    def theta(self, batch: Batch) -> list[torch.Tensor]:
        """(B,) zeros: the corrections."""
        self.epsilon = torch.zeros(len(batch.labels), device=batch.images.device, requires_grad=True)
        return [self.epsilon]

    def virtual_objective(self, logits: torch.Tensor, batch: Batch) -> torch.Tensor:
        """Σ (a_{y_i} + ε_i) ℓ_i: the published code's virtual step takes the sum, its real step the mean."""
        losses = self.losses(logits, batch)
        return ((self.weights(losses, batch) + self.epsilon) * losses).sum()

    def learn(self, gradient: list[torch.Tensor], batch: Batch) -> None:
        """One step from zero."""
        self.correction = -self.step * gradient[0]

    def objective(self, logits: torch.Tensor, batch: Batch) -> torch.Tensor:
        """(1/B) Σ w_i ℓ_i, without clipping or normalisation; plain cross-entropy before the meta epochs."""
        correction, self.correction = self.correction, 0.0
        losses = self.losses(logits, batch)
        if not self.active:
            return losses.mean()
        return ((self.weights(losses, batch) + correction) * losses).mean()
