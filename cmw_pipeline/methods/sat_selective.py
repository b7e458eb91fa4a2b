"""SAT for selective classification: what a label loses in trust goes to abstaining (NeurIPS 2020)."""

import torch
from torch import nn

from cmw_pipeline.config.methods.tasks import SatSelective as Options
from cmw_pipeline.methods.base import Batch, Problem
from cmw_pipeline.methods.parts.abstaining import Abstaining


class SatSelective(Abstaining):
    """Cross-entropy with the target t on the given label and 1 - t on abstaining (Huang et al.).

    ``trust`` (N,) is t: it starts at 1 and, from the first active epoch on, averages the probability of the
    label among the K classes. Of the published (N, K) targets no other entry is ever read.
    """

    def __init__(self, options: Options, problem: Problem) -> None:
        super().__init__(options, problem)
        self.memory = options.memory
        self.trust = nn.Buffer(torch.ones(self.num_samples))

    def observe(self, logits: torch.Tensor, batch: Batch) -> None:
        """T <- α t + (1 − α) p_y, before the loss looks at t."""
        if self.active:
            p = logits[:, : self.num_classes].to(self.trust.dtype).softmax(dim=1)
            given = p.gather(1, batch.labels[:, None])[:, 0]
            self.trust[batch.rows] = torch.lerp(given, self.trust[batch.rows], self.memory)

    def bets(self, logits: torch.Tensor, batch: Batch) -> torch.Tensor:
        """(B,) cross-entropy with the two-part target."""
        log_p = logits.log_softmax(dim=1)
        trust = self.trust[batch.rows]
        return -(trust * log_p.gather(1, batch.labels[:, None])[:, 0] + (1 - trust) * log_p[:, -1])
