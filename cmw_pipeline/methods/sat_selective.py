"""SAT for selective classification: what a label loses in trust goes to abstaining (NeurIPS 2020)."""

import torch
from torch import nn

from cmw_pipeline.config.methods.tasks import SatSelective as Options
from cmw_pipeline.methods.base import Batch, Problem, Weigh
from cmw_pipeline.methods.parts.abstaining import Abstaining


class SatSelective(Abstaining):
    """Cross-entropy with the target t on the given label and 1 - t on abstaining (Huang et al.).

    ``trust`` (N,) is t: it starts at 1 and, from the first active epoch on, averages the probability of the
    label among the K classes. Of the published (N, K) targets no other entry is ever read. The entropy is
    that of the K classes; the code of Feng et al. has −Σ p z there, which has no floor.
    """

    def __init__(self, options: Options, problem: Problem) -> None:
        super().__init__(options, problem)
        self.memory, self.entropy = options.memory, options.entropy
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

    def objective(self, logits: torch.Tensor, batch: Batch, weigh: Weigh) -> torch.Tensor:
        """The weighted mean of the losses; all entropies count alike."""
        loss = super().objective(logits, batch, weigh)
        if not (self.entropy and self.active):
            return loss
        log_p = self.prediction(logits).log_softmax(dim=1)
        return loss - self.entropy * (log_p.exp() * log_p).sum(dim=1).mean()
