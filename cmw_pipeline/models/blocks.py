"""Pieces that the classifiers share."""

from collections.abc import Callable

import torch
from torch import nn


def conv3x3(inputs: int, outputs: int, stride: int = 1) -> nn.Conv2d:
    """A 3 x 3 convolution with padding 1 and no bias."""
    return nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)


def stack(block: Callable[[int, int, int], nn.Module], widths: list[int], depth: list[int]) -> nn.Sequential:
    """Stages of residual blocks; each stage but the first halves the picture.

    Args:
        block: makes a block from (input channels, output channels, stride).
        widths: channels of the stem, then of each stage.
        depth: blocks in each stage.
    """
    blocks = []
    for stage, count in enumerate(depth):
        inputs, outputs = widths[stage], widths[stage + 1]
        blocks.append(block(inputs, outputs, 1 if stage == 0 else 2))
        blocks += [block(outputs, outputs, 1) for _ in range(count - 1)]
    return nn.Sequential(*blocks)


def kaiming_normal(network: nn.Module) -> None:
    """Initialise every convolution and linear weight as He et al. (2015)."""
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            nn.init.kaiming_normal_(module.weight)


def pooled(features: torch.Tensor) -> torch.Tensor:
    """Global average pooling: (B, C, H, W) -> (B, C)."""
    return features.mean(dim=(2, 3))
