"""LWS: a leveraged weighted loss of candidates against other classes (Wen et al., ICML 2021)."""

import torch
from torch import nn

from cmw_pipeline.config.methods.tasks import Lws as Options
from cmw_pipeline.methods.base import Batch, Method, Problem


class Lws(Method):
    """Σ w_k σ(−z_k) over the candidates + β Σ w_k σ(z_k) over the other classes.

    ``class_weights`` (N, K) starts at 1/K; then it is the prediction, renormalised among the candidates and,
    apart from them, among the others. A batch counts by what the epoch before left, and its own pass serves
    the next epoch; the published code passes the batch once more.
    """

    def __init__(self, options: Options, problem: Problem) -> None:
        super().__init__(options, problem)
        self.beta = options.beta
        self.allowed = nn.Buffer(problem.allowed, persistent=False)
        self.class_weights = nn.Buffer(torch.full(problem.allowed.shape, 1 / problem.num_classes))
        self.current = torch.empty(0)

    def observe(self, logits: torch.Tensor, batch: Batch) -> None:
        """Take the weights to train with, then renew them."""
        self.current = self.class_weights[batch.rows]
        allowed, logits = self.allowed[batch.rows], logits.to(self.class_weights.dtype)
        self.class_weights[batch.rows] = _among(logits, allowed) + _among(logits, ~allowed)

    def losses(self, logits: torch.Tensor, batch: Batch) -> torch.Tensor:
        """(B,) of the candidate sets; with the given label before the method is active."""
        if not self.active:
            return super().losses(logits, batch)
        allowed = self.allowed[batch.rows]
        missed = torch.where(allowed, (-logits).sigmoid(), self.beta * logits.sigmoid())
        return (self.current * missed).sum(dim=1)


def _among(logits: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
    """(B, K) softmax among the chosen classes, zero for the others, and where none is chosen."""
    among = logits.masked_fill(~chosen, -torch.inf).softmax(dim=1)
    return torch.where(chosen, among, 0.0)
