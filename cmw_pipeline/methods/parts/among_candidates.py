"""Soft labels among candidates that follow the predictions: what PRODEN and CAVL share."""

import torch
from torch import nn

from cmw_pipeline.config.methods.base import MethodBase
from cmw_pipeline.methods.base import Batch, Method, Problem
from cmw_pipeline.methods.parts.losses import cross_entropy


class AmongCandidates(Method):
    """Cross-entropy with the soft label, which then becomes what the method makes of the prediction.

    ``targets`` (N, K) starts uniform on the candidates. A batch trains on what the epoch before left, as in
    the published code: its own prediction, from the same pass, serves the next epoch.
    """

    def __init__(self, options: MethodBase, problem: Problem) -> None:
        super().__init__(options, problem)
        allowed = problem.allowed
        self.targets = nn.Buffer(allowed / allowed.sum(dim=1, keepdim=True))
        self.allowed = nn.Buffer(allowed, persistent=False)
        self.current = torch.empty(0)

    def observe(self, logits: torch.Tensor, batch: Batch) -> None:
        """Take the soft labels to train on, then renew them."""
        self.current = self.targets[batch.rows]
        self.targets[batch.rows] = self.renewed(logits.to(self.targets.dtype), self.allowed[batch.rows])

    def renewed(self, logits: torch.Tensor, allowed: torch.Tensor) -> torch.Tensor:
        """(B, K) soft labels that follow from (B, K) logits; ``allowed``, (B, K) bool, are the candidates."""
        raise NotImplementedError

    def losses(self, logits: torch.Tensor, batch: Batch) -> torch.Tensor:
        """(B,) cross-entropy with the soft label; with the given label before the method is active."""
        return cross_entropy(logits, self.current if self.active else batch.labels)
