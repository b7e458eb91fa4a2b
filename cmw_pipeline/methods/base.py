"""The contract between the training loop and a method.

A method is an ``nn.Module``. Its parameters are what its meta step learns (Θ), its buffers are what it
remembers (class groups, soft labels, ...): ``state_dict`` is the flat dict of tensors that a checkpoint
needs, so saving and exact resume come free. The defaults below are ERM; a method overrides what differs.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from cmw_pipeline.config.schema import MethodBase


@dataclass(frozen=True)
class Problem:
    """What a method may know of the training set: the given labels, never the clean ones."""

    num_classes: int
    labels: torch.Tensor
    """(N,) int64 given labels."""

    @property
    def class_counts(self) -> torch.Tensor:
        """(K,) int64 training samples of each class by given label."""
        return torch.bincount(self.labels, minlength=self.num_classes)


@dataclass(frozen=True)
class Batch:
    """Training samples as a step sees them."""

    images: torch.Tensor
    """(B, C, H, W) float, augmented and normalised."""
    labels: torch.Tensor
    """(B,) int64 given labels."""
    rows: torch.Tensor
    """(B,) int64 positions in the training set."""


class Method(nn.Module):
    """Answers what the loop asks; as it stands, plain ERM.

    ``start_epoch``: before it the method trains by plain mean cross-entropy.
    """

    def __init__(self, options: MethodBase, problem: Problem) -> None:
        super().__init__()
        self.first_epoch: int = getattr(options, "start_epoch", 0)
        self.normalisation: str = getattr(options, "normalisation", "mean")
        self.active = self.first_epoch == 0

    def begin_epoch(self, epoch: int) -> None:
        """Called before the first step of every epoch, and again when a run resumes inside it."""
        self.active = epoch >= self.first_epoch

    def losses(self, logits: torch.Tensor, batch: Batch) -> torch.Tensor:
        """(B,) loss of each sample; cross-entropy with the given label."""
        return F.cross_entropy(logits, batch.labels, reduction="none")

    def weights(self, losses: torch.Tensor, batch: Batch) -> torch.Tensor:
        """(B,) weight of each sample, from its detached loss."""
        return torch.ones_like(losses)

    def objective(self, logits: torch.Tensor, batch: Batch) -> torch.Tensor:
        """The scalar training loss of a batch."""
        losses = self.losses(logits, batch)
        if not self.active:
            return losses.mean()
        weights = self.weights(losses.detach(), batch)
        return weighted_mean(losses, weights, self.normalisation)


def weighted_mean(losses: torch.Tensor, weights: torch.Tensor, normalisation: str) -> torch.Tensor:
    """Σ v_i ℓ_i / c: c = B (``mean``), or the detached Σ v_i (``sum``; 1 where all weights vanish)."""
    total = (weights * losses).sum()
    if normalisation == "mean":
        return total / len(losses)
    mass = weights.detach().sum()
    return total / torch.where(mass > 0, mass, 1.0)
