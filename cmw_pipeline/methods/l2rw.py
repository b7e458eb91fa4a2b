"""L2RW: weights from the agreement of each sample's gradient with the meta-set's (Ren et al., ICML 2018)."""

import torch

from cmw_pipeline.config.methods.weighting import L2rw as Options
from cmw_pipeline.methods.base import Batch, MetaMethod, Problem
from cmw_pipeline.methods.parts.losses import HEADS, base_loss, early_loss


class L2rw(MetaMethod):
    """w_i ∝ max(0, ⟨∇ℓ_i, ∇L_meta⟩), summing to one; nothing is kept from one batch to the next.

    The look-ahead starts from weights zero, so the virtual step stands still and the meta gradient is
    taken at the present weights.
    """

    steady = True

    def __init__(self, options: Options, problem: Problem) -> None:
        super().__init__(options, problem)
        self.head = HEADS[options.base_loss]
        self.sample_loss = base_loss(options.base_loss, problem)
        self.early_loss = early_loss(options.base_loss, self.sample_loss)
        self.epsilon = torch.empty(0)
        self.batch_weights: torch.Tensor | None = None

    def losses(self, logits: torch.Tensor, batch: Batch) -> torch.Tensor:
        """(B,) the base loss with the given label."""
        return (self.sample_loss if self.active else self.early_loss)(logits, batch.labels)

    def theta(self, batch: Batch) -> list[torch.Tensor]:
        """(B,) zeros: the samples' weights in the virtual step."""
        self.epsilon = torch.zeros(len(batch.labels), device=batch.images.device, requires_grad=True)
        return [self.epsilon]

    def virtual_objective(self, logits: torch.Tensor, batch: Batch) -> torch.Tensor:
        """Σ ε_i ℓ_i."""
        return (self.epsilon * self.losses(logits, batch)).sum()

    def learn(self, gradient: list[torch.Tensor], batch: Batch) -> None:
        """Keep the weights that lower the meta loss."""
        useful = (-gradient[0]).clamp(min=0)
        mass = useful.sum()
        self.batch_weights = useful / torch.where(mass > 0, mass, 1.0)

    def objective(self, logits: torch.Tensor, batch: Batch) -> torch.Tensor:
        """Σ w_i ℓ_i; the plain mean where no meta step went before."""
        weights, self.batch_weights = self.batch_weights, None
        losses = self.losses(logits, batch)
        return losses.mean() if weights is None else (weights * losses).sum()
