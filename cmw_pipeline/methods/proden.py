"""PRODEN: soft labels among the candidates follow the network's own predictions (Lv et al., ICML 2020)."""

import torch
from torch import nn

from cmw_pipeline.config.methods.tasks import Proden as Options
from cmw_pipeline.methods.base import Batch, Method, Problem
from cmw_pipeline.methods.parts.losses import cross_entropy


class Proden(Method):
    """Cross-entropy with the soft label, which then becomes the prediction, restricted to the candidates.

    ``targets`` (N, K) starts uniform on the candidates. A batch trains on what the epoch before left, as in
    the published code: its own prediction, from the same pass, serves the next epoch.
    """

    def __init__(self, options: Options, problem: Problem) -> None:
        super().__init__(options, problem)
        allowed = problem.allowed
        self.targets = nn.Buffer(allowed / allowed.sum(dim=1, keepdim=True))
        self.allowed = nn.Buffer(allowed, persistent=False)
        self.current = torch.empty(0)

    def observe(self, logits: torch.Tensor, batch: Batch) -> None:
        """Take the soft labels to train on, then renew them."""
        self.current = self.targets[batch.rows]
        candidates = logits.to(self.targets.dtype).masked_fill(~self.allowed[batch.rows], -torch.inf)
        self.targets[batch.rows] = candidates.softmax(dim=1)

    def losses(self, logits: torch.Tensor, batch: Batch) -> torch.Tensor:
        """(B,) cross-entropy with the soft label; with the given label before the method is active."""
        return cross_entropy(logits, self.current if self.active else batch.labels)
