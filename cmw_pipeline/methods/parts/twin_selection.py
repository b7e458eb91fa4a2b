"""Two networks that choose each other's samples: Co-teaching, Decoupling and Peer-learning in one."""

from typing import ClassVar

import torch
from torch import nn

from cmw_pipeline.config.methods.base import MethodBase
from cmw_pipeline.methods.base import Batch, Method, Problem, Weigh
from cmw_pipeline.methods.parts.towers import tower_losses


class TwinSelection(Method):
    """Each network learns from the samples on which both disagree, and from the other's small losses.

    Both steps of a batch are one: the loss is the sum of the two networks', which share no weight.
    """

    by_disagreement: ClassVar[bool] = False
    """Whether disagreements are always learnt from, and small losses sought among the agreements."""
    by_small_loss: ClassVar[bool] = False

    def __init__(
        self, options: MethodBase, problem: Problem, forget_rate: float, ramp_epochs: int, exponent: float
    ) -> None:
        super().__init__(options, problem)
        self.final_rate, self.ramp_epochs, self.exponent = forget_rate, ramp_epochs, exponent
        self.forget_rate = nn.Buffer(torch.zeros((), dtype=torch.float64))

    def begin_epoch(self, epoch: int) -> None:
        """Set the share of small losses to leave out: τ min(e / T, 1)^c, e epochs after the start."""
        super().begin_epoch(epoch)
        passed = max(epoch - self.first_epoch, 0)
        ramp = min(passed / self.ramp_epochs, 1.0) if self.ramp_epochs else 1.0
        self.forget_rate.fill_(self.final_rate * ramp**self.exponent)

    def losses(self, logits: torch.Tensor, batch: Batch) -> torch.Tensor:
        """(B, 2) cross-entropy of each network with the given label."""
        return tower_losses(logits, batch.labels)

    def objective(self, logits: torch.Tensor, batch: Batch, weigh: Weigh) -> torch.Tensor:
        """Sum over the networks of the mean loss of the samples chosen for them."""
        losses = self.losses(logits, batch)
        if not self.active:
            return losses.mean(dim=0).sum()
        mask = self.chosen(losses.detach(), logits.argmax(dim=2)).to(losses)
        return ((mask * losses).sum(dim=0) / mask.sum(dim=0).clamp(min=1)).sum()

    def chosen(self, losses: torch.Tensor, guesses: torch.Tensor) -> torch.Tensor:
        """(B, 2) bool: which samples each network learns from.

        Args:
            losses: (B, 2) of each network.
            guesses: (B, 2) int64 classes.
        """
        disagree = guesses[:, :1] != guesses[:, 1:]
        if not self.by_disagreement:
            disagree = torch.zeros_like(disagree)
        mask = disagree.expand_as(losses)
        if self.by_small_loss:
            kept = smallest(losses, ~disagree, 1 - self.forget_rate)
            mask = mask | kept.flip(1)
        return mask


def smallest(losses: torch.Tensor, candidates: torch.Tensor, share: torch.Tensor) -> torch.Tensor:
    """(B, 2) bool: in each column the int(share · n) smallest losses of the n candidates.

    Args:
        losses: (B, 2).
        candidates: (B, 1) bool.
        share: scalar.
    """
    order = losses.masked_fill(~candidates, torch.inf).argsort(dim=0, stable=True)
    return order.argsort(dim=0) < (share * candidates.sum() + 1e-9).floor()
