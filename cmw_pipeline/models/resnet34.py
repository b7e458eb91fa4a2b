"""ResNet-34 for CIFAR as in the published code for feature-dependent noise.

He et al. (CVPR 2016) with projection shortcuts (option B), a 3 x 3 stem in place of the 7 x 7 one and of the
max pooling, and PyTorch's own initialisation. The stem does not pad: 32 x 32 pictures become 30 x 30 maps.
"""

import torch
import torch.nn.functional as F
from torch import nn

from cmw_pipeline.models.blocks import Classifier, conv3x3, pooled, stack


class ProjectionBlock(nn.Module):
    """Two 3 x 3 convolutions; a normalised 1 x 1 convolution where the shape changes (option B)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = conv3x3(inputs, outputs, stride), nn.BatchNorm2d(outputs)
        self.conv2, self.bn2 = conv3x3(outputs, outputs), nn.BatchNorm2d(outputs)
        self.shortcut = nn.Sequential()
        if stride != 1 or inputs != outputs:
            self.shortcut.append(nn.Conv2d(inputs, outputs, 1, stride, bias=False))
            self.shortcut.append(nn.BatchNorm2d(outputs))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, inputs, H, W) -> (B, outputs, H/stride, W/stride)."""
        out = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(out + self.shortcut(x))


class ResNet34(Classifier):
    """Stages of 3, 4, 6 and 3 blocks with 1, 2, 4 and 8 times the width."""

    def __init__(self, channels: int, num_classes: int, width: int = 64) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(channels, width, 3, bias=False), nn.BatchNorm2d(width), nn.ReLU())
        widths = [width, width, 2 * width, 4 * width, 8 * width]
        self.stages = stack(ProjectionBlock, widths, [3, 4, 6, 3])
        self.classifier = nn.Linear(8 * width, num_classes)

    def embed(self, images: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) float -> (B, 8 width) pooled features."""
        return pooled(self.stages(self.stem(images)))
