"""Wide ResNet with 28 layers for CIFAR (Zagoruyko & Komodakis, BMVC 2016): FixMatch's network."""

import torch
import torch.nn.functional as F
from torch import nn

from cmw_pipeline.models.blocks import Classifier, conv3x3, kaiming_normal, pooled, stack
from cmw_pipeline.models.preact_resnet18 import PreActBlock

_STEM = 16
_MOMENTUM = 0.001


class WideBlock(PreActBlock):
    """A pre-activation block whose shortcut carries the input as it is."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, inputs, H, W) -> (B, outputs, H/stride, W/stride)."""
        active = F.relu(self.bn1(x))
        out: torch.Tensor = self.conv2(F.relu(self.bn2(self.conv1(active))))
        shortcut: torch.Tensor = self.shortcut(x)
        return out + shortcut


class Wrn28(Classifier):
    """Three stages of four pre-activation blocks with width, 2 width and 4 width channels.

    The width of 32 is WRN-28-2, that of 128 WRN-28-8. As in FixMatch's code, batch norm moves its statistics
    by a thousandth. That code has leaky ReLUs of slope 0.1; here, as in the paper, they are plain.
    """

    def __init__(self, channels: int, num_classes: int, width: int = 32) -> None:
        super().__init__()
        self.stem = conv3x3(channels, _STEM)
        blocks = stack(WideBlock, [_STEM, width, 2 * width, 4 * width], [4, 4, 4])
        blocks[0] = PreActBlock(_STEM, width, 1)  # the one block whose shortcut is activated
        self.stages = nn.Sequential(*blocks, nn.BatchNorm2d(4 * width), nn.ReLU())
        self.classifier = nn.Linear(4 * width, num_classes)
        kaiming_normal(self)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = _MOMENTUM

    def embed(self, images: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) float -> (B, 4 width) pooled features."""
        return pooled(self.stages(self.stem(images)))
