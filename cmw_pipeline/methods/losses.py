"""Per-sample losses that several methods use."""

from collections.abc import Callable

import torch
import torch.nn.functional as F

from cmw_pipeline.methods.base import Problem

SampleLoss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""(logits, (B,) int64 labels) -> (B,) losses."""
COSINE_SCALE = 30.0
HEADS = {"ce": "linear", "ldam": "cosine", "sade": "experts"}
"""The output layer that a base loss needs."""


def cross_entropy(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """(B, K) logits; (B,) labels, or (B, K) soft ones -> (B,)."""
    return F.cross_entropy(logits, labels, reduction="none")


def ldam(counts: torch.Tensor, largest_margin: float = 0.5) -> SampleLoss:
    """Label-distribution-aware margins on the logits of a cosine head (Cao et al., NeurIPS 2019).

    The true class's cosine is lowered by m_y ∝ n_y^(-1/4), scaled so that the rarest class has
    ``largest_margin``; the logits are cosines times 30.

    Args:
        counts: (K,) training samples of each class.
        largest_margin: of the rarest class, as a cosine.
    """
    rarity = counts.clamp(min=1).to(torch.get_default_dtype()) ** -0.25
    margins = largest_margin * rarity / rarity.max()

    def loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        hit = F.one_hot(labels, logits.shape[-1])
        return cross_entropy(logits - COSINE_SCALE * margins.to(logits)[labels][:, None] * hit, labels)

    return loss


def sade(counts: torch.Tensor, strength: float = 2.0) -> SampleLoss:
    """SADE's three experts (Zhang et al., NeurIPS 2022): for the long-tailed, even and inverted prior.

    Losses of (B, 3, K) logits, summed over the experts: CE of z1, of z2 + log π, and of
    z3 + log π − strength · log π', π' the class frequencies with their order reversed.

    Args:
        counts: (K,) training samples of each class.
        strength: how far the third expert leans to the inverted prior.
    """
    prior = counts.clamp(min=1).to(torch.get_default_dtype()) / counts.sum()
    ranks = prior.argsort()
    reversed_prior = torch.empty_like(prior).index_copy(0, ranks, prior[ranks].flip(0))
    offsets = torch.stack(
        [torch.zeros_like(prior), prior.log(), prior.log() - strength * reversed_prior.log()]
    )

    def loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        shifted = (logits + offsets.to(logits)).flatten(0, 1)
        return cross_entropy(shifted, labels.repeat_interleave(3)).view(-1, 3).sum(dim=1)

    return loss


def base_loss(name: str, problem: Problem) -> SampleLoss:
    """The per-sample loss of this name: ``ce``, ``ldam`` or ``sade``."""
    if name == "ldam":
        return ldam(problem.class_counts)
    if name == "sade":
        return sade(problem.class_counts)
    return cross_entropy


def class_balanced_weights(counts: torch.Tensor, beta: float) -> torch.Tensor:
    """(K,) inverse effective numbers of samples, with mean 1 (Cui et al., CVPR 2019).

    a_k ∝ (1 − β) / (1 − β^n_k). A class without samples gets the weight of one with a single sample.
    """
    effective = (1 - beta ** counts.clamp(min=1).double()) / (1 - beta) if beta else torch.ones(len(counts))
    inverse = 1 / effective
    return (inverse * len(counts) / inverse.sum()).to(torch.get_default_dtype())
