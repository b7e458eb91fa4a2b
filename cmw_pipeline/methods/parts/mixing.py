"""Mixup and soft labels, for the methods that use them."""

import math

import torch
from torch import nn
from torch.func import functional_call


def draw_lambda(alpha: float, device: torch.device) -> torch.Tensor:
    """Scalar max(λ, 1 − λ) with λ ~ Beta(α, α), drawn on the device; 1 for α = 0."""
    if alpha == 0:
        return torch.ones((), device=device)
    lam = torch._sample_dirichlet(torch.full((2,), alpha, device=device))[0]
    return torch.maximum(lam, 1 - lam)


def draw_partners(size: int, device: torch.device) -> torch.Tensor:
    """(B,) int64: a random permutation; whom each sample is mixed with."""
    return torch.rand(size, device=device).argsort()


@torch.no_grad()
def train_mode_logits(network: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """Logits with the batch's own statistics, which are not remembered: how the published teacher guesses."""
    was_training = network.training
    buffers = {name: buffer.clone() for name, buffer in network.named_buffers()}
    logits: torch.Tensor = functional_call(network.train(), buffers, (images,))
    network.train(was_training)
    return logits


@torch.no_grad()
def logits_in_mode(network: nn.Module, images: torch.Tensor, training: bool) -> torch.Tensor:
    """Logits in evaluation mode, or in training mode, where the statistics of batch norm move."""
    was_training = network.training
    logits: torch.Tensor = network.train(training)(images)
    network.train(was_training)
    return logits


def sharpen(probabilities: torch.Tensor, temperature: float) -> torch.Tensor:
    """(B, K) p^(1/T), rows summing to 1 again."""
    powers = probabilities ** (1 / temperature)
    return powers / powers.sum(dim=1, keepdim=True)


def divergence_from_uniform(logits: torch.Tensor) -> torch.Tensor:
    """Scalar KL(uniform, mean prediction of the batch): a penalty on predicting few classes."""
    log_mean = logits.log_softmax(dim=1).logsumexp(dim=0) - math.log(len(logits))
    return -log_mean.mean() - math.log(logits.shape[1])
