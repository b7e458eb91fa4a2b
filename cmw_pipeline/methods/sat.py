"""SAT: targets drift from the given labels to an average of predictions (Huang et al., NeurIPS 2020)."""

import torch
import torch.nn.functional as F
from torch import nn

from cmw_pipeline.config.methods.memory import Sat as Options
from cmw_pipeline.methods.base import Batch, Method, Problem, Weigh
from cmw_pipeline.methods.parts.losses import cross_entropy


class Sat(Method):
    """Cross-entropy with the target, weighted by how decided the target is.

    ``targets`` (N, K) starts at the given labels and moves from the first active epoch on.
    """

    def __init__(self, options: Options, problem: Problem) -> None:
        super().__init__(options, problem)
        self.memory = options.memory
        self.targets = nn.Buffer(F.one_hot(problem.labels, problem.num_classes).to(torch.get_default_dtype()))

    def observe(self, logits: torch.Tensor, batch: Batch) -> None:
        """T <- α t + (1 − α) p, before the loss looks at t."""
        if self.active:
            self.targets[batch.rows] = torch.lerp(
                logits.softmax(dim=1), self.targets[batch.rows], self.memory
            )

    def losses(self, logits: torch.Tensor, batch: Batch) -> torch.Tensor:
        """(B,) cross-entropy with the target; with the given label before the method is active."""
        return cross_entropy(logits, self.targets[batch.rows] if self.active else batch.labels)

    def objective(self, logits: torch.Tensor, batch: Batch, weigh: Weigh) -> torch.Tensor:
        """The weighted mean of the losses, each times how decided its target is."""
        losses = self.losses(logits, batch)
        decided = self.decided(batch) if self.active else torch.ones_like(losses)
        return weigh(losses, batch.labels).mean(decided * losses)

    def decided(self, batch: Batch) -> torch.Tensor:
        """(B,) the target's largest entry, scaled to mean 1."""
        decided = self.targets[batch.rows].amax(dim=1)
        return decided / decided.mean()

    def weights(self, losses: torch.Tensor, batch: Batch) -> torch.Tensor:
        """(B,) how decided the target is, times what the weighting says."""
        return self.decided(batch) * super().weights(losses, batch)
