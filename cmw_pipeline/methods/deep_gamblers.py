"""Deep Gamblers: to abstain is to keep part of the stake (Ziyin et al., NeurIPS 2019)."""

import math

import torch

from cmw_pipeline.config.methods.tasks import DeepGamblers as Options
from cmw_pipeline.methods.base import Batch, Problem
from cmw_pipeline.methods.parts.abstaining import Abstaining


class DeepGamblers(Abstaining):
    """-log(p_y + p_abstain / o), o the payoff: the probabilities are shares of a stake, y pays o for one."""

    def __init__(self, options: Options, problem: Problem) -> None:
        super().__init__(options, problem)
        self.log_payoff = math.log(options.payoff)

    def bets(self, logits: torch.Tensor, batch: Batch) -> torch.Tensor:
        """(B,) the logarithm of what is lost."""
        bet = logits.gather(1, batch.labels[:, None])[:, 0]
        kept = logits[:, -1] - self.log_payoff
        return logits.logsumexp(dim=1) - torch.logaddexp(bet, kept)
