"""Guesses of a network and what is made of them, for the methods that mix images."""

import math

import torch
from torch import nn
from torch.func import functional_call


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
