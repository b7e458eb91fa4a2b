"""What the classifiers share: their form, and the pieces they are made of."""

from collections.abc import Callable

import torch
from torch import nn


class Classifier(nn.Module):
    """A trunk that embeds pictures and a head that classifies what it embeds.

    Every network is built with a linear ``classifier``; another head takes its place (see ``heads.py``).
    """

    classifier: nn.Module

    def embed(self, images: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) float -> (B, F) pooled features; (B, 3, F) from a network of experts."""
        raise NotImplementedError

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) float -> (B, K) logits, or what the head returns while training.

        The head computes in float32 at least, also where other products are in bfloat16: losses and memories
        build on logits, and of logits with 8 bits many would be equal.
        """
        features = self.embed(images)
        with torch.autocast(images.device.type, enabled=False):
            features = features.to(torch.promote_types(features.dtype, torch.float32))
            logits: torch.Tensor = self.classifier(features)
        return logits


def conv3x3(inputs: int, outputs: int, stride: int = 1) -> nn.Conv2d:
    """A 3 x 3 convolution with padding 1 and no bias."""
    return nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)


def stack(
    block: Callable[[int, int, int], nn.Module], widths: list[int], depth: list[int], first_stride: int = 1
) -> nn.Sequential:
    """Stages of residual blocks; each stage but the first halves the picture.

    Args:
        block: makes a block from (input channels, output channels, stride).
        widths: channels of the stem, then of each stage.
        depth: blocks in each stage.
        first_stride: 2 if the first stage halves the picture too.
    """
    blocks = []
    for stage, count in enumerate(depth):
        inputs, outputs = widths[stage], widths[stage + 1]
        blocks.append(block(inputs, outputs, first_stride if stage == 0 else 2))
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
