"""CC: the classifier-consistent loss of candidate sets (Feng et al., NeurIPS 2020)."""

import torch
from torch import nn

from cmw_pipeline.config.methods.tasks import Cc as Options
from cmw_pipeline.methods.base import Batch, Method, Problem


class Cc(Method):
    """−log Σ p_k over the candidates: some one of them is right."""

    def __init__(self, options: Options, problem: Problem) -> None:
        super().__init__(options, problem)
        self.allowed = nn.Buffer(problem.allowed, persistent=False)

    def losses(self, logits: torch.Tensor, batch: Batch) -> torch.Tensor:
        """(B,) of the candidate sets; with the given label before the method is active."""
        if not self.active:
            return super().losses(logits, batch)
        among = logits.masked_fill(~self.allowed[batch.rows], -torch.inf)
        return logits.logsumexp(dim=1) - among.logsumexp(dim=1)
