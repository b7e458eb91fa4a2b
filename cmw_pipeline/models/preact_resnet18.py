"""PreAct ResNet-18 for CIFAR in the form used for the published noise tables.

He et al. (ECCV 2016) with a conv-BN-ReLU stem, shortcuts that carry the activated input, and no batch
normalisation before the final pooling, as in the official CMW-Net code.
"""

import torch
import torch.nn.functional as F
from torch import nn

from cmw_pipeline.models.blocks import Classifier, conv3x3, pooled, stack


class PreActBlock(nn.Module):
    """BN-ReLU-conv twice, plus the activated input, by a 1 x 1 convolution where the shape changes.

    He et al. add the input before its activation where the shape stays; the official code adds it after.
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.bn1, self.conv1 = nn.BatchNorm2d(inputs), conv3x3(inputs, outputs, stride)
        self.bn2, self.conv2 = nn.BatchNorm2d(outputs), conv3x3(outputs, outputs)
        changes = stride != 1 or inputs != outputs
        self.shortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False) if changes else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, inputs, H, W) -> (B, outputs, H/stride, W/stride)."""
        active = F.relu(self.bn1(x))
        out: torch.Tensor = self.conv2(F.relu(self.bn2(self.conv1(active)))) + self.shortcut(active)
        return out


class PreActResNet18(Classifier):
    """Four stages of two blocks with 1, 2, 4 and 8 times the width."""

    depth = (2, 2, 2, 2)

    def __init__(self, channels: int, num_classes: int, width: int = 64) -> None:
        super().__init__()
        self.stem = nn.Sequential(conv3x3(channels, width), nn.BatchNorm2d(width), nn.ReLU())
        self.stages = stack(PreActBlock, [width, width, 2 * width, 4 * width, 8 * width], [*self.depth])
        self.classifier = nn.Linear(8 * width, num_classes)

    def embed(self, images: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) float -> (B, 8 width) pooled features."""
        return pooled(self.stages(self.stem(images)))
