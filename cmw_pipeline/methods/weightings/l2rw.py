"""L2RW: weights from the agreement of each sample's gradient with the meta-set's (Ren et al., ICML 2018)."""

import torch

from cmw_pipeline.config.weightings import L2rw as Options
from cmw_pipeline.methods.problem import Problem
from cmw_pipeline.methods.weightings.base import Weighting, Weights


class L2rw(Weighting):
    """w_i ∝ max(0, ⟨∇ℓ_i, ∇L_meta⟩), summing to one; nothing is kept from one batch to the next.

    The look-ahead starts from weights zero, so the virtual step stands still and the meta gradient is
    taken at the present weights. Where no meta step went before a batch, all losses count alike.
    """

    def __init__(self, options: Options, problem: Problem) -> None:
        super().__init__(options, problem)
        self.epsilon = torch.empty(0)
        self.useful: torch.Tensor | None = None

    def theta(self, labels: torch.Tensor) -> list[torch.Tensor]:
        """(B,) zeros: the samples' weights in the virtual step."""
        self.epsilon = torch.zeros(len(labels), device=labels.device, requires_grad=True)
        return [self.epsilon]

    def virtual_weights(self, losses: torch.Tensor, labels: torch.Tensor) -> Weights:
        """ε_i, for Σ ε_i ℓ_i."""
        return Weights(self.epsilon, "none")

    def learn(self, gradient: list[torch.Tensor]) -> None:
        """Keep the weights that lower the meta loss."""
        useful = (-gradient[0]).clamp(min=0)
        mass = useful.sum()
        self.useful = useful / torch.where(mass > 0, mass, 1.0)

    def weights(self, losses: torch.Tensor, labels: torch.Tensor) -> Weights:
        """What the meta step of this batch found, for Σ w_i ℓ_i."""
        useful, self.useful = self.useful, None
        return super().weights(losses, labels) if useful is None else Weights(useful, "none")
