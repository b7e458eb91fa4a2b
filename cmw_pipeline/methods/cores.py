"""CORES: confidence is rewarded, and labels less probable than a mean class are sieved out (ICLR 2021)."""

import torch
from torch import nn

from cmw_pipeline.config.methods.losses import Cores as Options
from cmw_pipeline.methods.base import Batch, Method, Problem, Weigh
from cmw_pipeline.methods.parts.losses import cross_entropy, mean_cross_entropy


class Cores(Method):
    """CE_i − β mean_k(−log p_ik), a mean over the samples whose cross-entropy is below that mean over k.

    Cheng, Zhu, Li, Gong, Sun and Liu, ICLR 2021; the first phase of their method, without the second one's
    consistency training. ``strength`` is β, which grows from 0.
    """

    def __init__(self, options: Options, problem: Problem) -> None:
        super().__init__(options, problem)
        self.options = options
        self.strength = nn.Buffer(torch.zeros(()))

    def begin_epoch(self, epoch: int) -> None:
        """Set β: 0 before ``reward_from``, then up over ``ramp_epochs``."""
        super().begin_epoch(epoch)
        passed = max(epoch - self.options.reward_from, 0)
        self.strength.fill_(self.options.beta * min(passed / self.options.ramp_epochs, 1.0))

    def losses(self, logits: torch.Tensor, batch: Batch) -> torch.Tensor:
        """(B,) with the given label."""
        given = super().losses(logits, batch)
        return given - self.strength * mean_cross_entropy(logits) if self.active else given

    def objective(self, logits: torch.Tensor, batch: Batch, weigh: Weigh) -> torch.Tensor:
        """The weighted mean over the samples that the sieve keeps; the weighting sees cross-entropies."""
        given = cross_entropy(logits, batch.labels)
        kept = torch.ones_like(given)
        if self.active and self.epoch >= self.options.sieve_from:
            kept = (given <= mean_cross_entropy(logits)).to(given).detach()
        counts = kept * weigh(given, batch.labels).factors(among=kept)
        return (counts * self.losses(logits, batch)).sum() / kept.sum().clamp(min=1)
