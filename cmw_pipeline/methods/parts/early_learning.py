"""Early-learning regularisation, for ELR and ELR+ (Liu et al., NeurIPS 2020)."""

import torch

FLOOR = 1e-4
"""Probabilities are kept this far from 0 and 1, so that no logarithm runs away."""


def probabilities(logits: torch.Tensor) -> torch.Tensor:
    """Softmax over the last dimension, kept away from 0 and 1."""
    return logits.softmax(dim=-1).clamp(FLOOR, 1 - FLOOR)


def early_learning(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """log(1 − <t, p>) over the last dimension: the smaller, the closer p is to t."""
    return (1 - (targets * probabilities(logits)).sum(dim=-1)).log()
