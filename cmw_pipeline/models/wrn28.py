"""Wide ResNet with 28 layers for CIFAR (Zagoruyko & Komodakis, BMVC 2016): FixMatch's network."""

import torch
import torch.nn.functional as F
from torch import nn

from cmw_pipeline.models.blocks import Classifier, conv3x3, kaiming_normal, pooled, stack
from cmw_pipeline.models.preact_resnet18 import PreActBlock

_STEM = 16


class WideBlock(PreActBlock):
    """A pre-activation block as in He et al.: where the shape stays, the input is added as it is."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, inputs, H, W) -> (B, outputs, H/stride, W/stride)."""
        active = F.relu(self.bn1(x))
        out: torch.Tensor = self.conv2(F.relu(self.bn2(self.conv1(active))))
        return out + (x if isinstance(self.shortcut, nn.Identity) else self.shortcut(active))


class Wrn28(Classifier):
    """Three stages of four pre-activation blocks with width, 2 width and 4 width channels.

    The width of 32 is WRN-28-2, that of 128 WRN-28-8. FixMatch's code has leaky ReLUs of slope 0.1; here, as
    in the paper, they are plain.
    """

    def __init__(self, channels: int, num_classes: int, width: int = 32) -> None:
        super().__init__()
        self.stem = conv3x3(channels, _STEM)
        blocks = stack(WideBlock, [_STEM, width, 2 * width, 4 * width], [4, 4, 4])
        self.stages = nn.Sequential(*blocks, nn.BatchNorm2d(4 * width), nn.ReLU())
        self.classifier = nn.Linear(4 * width, num_classes)
        kaiming_normal(self)

    def embed(self, images: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) float -> (B, 4 width) pooled features."""
        return pooled(self.stages(self.stem(images)))
