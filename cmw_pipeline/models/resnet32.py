"""ResNet-32 for CIFAR with option-A shortcuts (He et al., CVPR 2016, section 4.2)."""

import torch
import torch.nn.functional as F
from torch import nn

from cmw_pipeline.models.blocks import Classifier, conv3x3, kaiming_normal, pooled, stack
from cmw_pipeline.models.heads import NUM_EXPERTS, ExpertHead


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions; the shortcut subsamples and pads with zero channels (option A)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = conv3x3(inputs, outputs, stride), nn.BatchNorm2d(outputs)
        self.conv2, self.bn2 = conv3x3(outputs, outputs), nn.BatchNorm2d(outputs)
        self.stride = stride
        self.padding = outputs - inputs

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, inputs, H, W) -> (B, outputs, H/stride, W/stride)."""
        out = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(out + self._shortcut(x))

    def _shortcut(self, x: torch.Tensor) -> torch.Tensor:
        if self.stride == 1 and not self.padding:
            return x
        before = self.padding // 2
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, before, self.padding - before))


class ResNet32(Classifier):
    """Three stages of five blocks with width, 2 width and 4 width channels."""

    def __init__(self, channels: int, num_classes: int, width: int = 16) -> None:
        super().__init__()
        self.stem = nn.Sequential(conv3x3(channels, width), nn.BatchNorm2d(width), nn.ReLU())
        self.stages = stack(BasicBlock, [width, width, 2 * width, 4 * width], [5, 5, 5])
        self.classifier = nn.Linear(4 * width, num_classes)
        kaiming_normal(self)

    def embed(self, images: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) float -> (B, 4 width) pooled features."""
        return pooled(self.stages(self.stem(images)))


class ResNet32Experts(Classifier):
    """SADE's ResNet-32 (Zhang et al., NeurIPS 2022): stem and first stage serve three experts.

    Each expert has its own second and third stage with 3/4 of the usual channels (16, 24 and 48 at the width
    of 16) and its own cosine classifier.
    """

    def __init__(self, channels: int, num_classes: int, width: int = 16) -> None:
        super().__init__()
        self.stem = nn.Sequential(conv3x3(channels, width), nn.BatchNorm2d(width), nn.ReLU())
        self.stages = stack(BasicBlock, [width, width], [5])
        widths = [width, 3 * width // 2, 3 * width]
        self.experts = nn.ModuleList(
            stack(BasicBlock, widths, [5, 5], first_stride=2) for _ in range(NUM_EXPERTS)
        )
        self.classifier = ExpertHead(widths[-1], num_classes)
        kaiming_normal(self)

    def embed(self, images: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) float -> (B, 3, 3 width) pooled features of each expert."""
        shared = self.stages(self.stem(images))
        return torch.stack([pooled(expert(shared)) for expert in self.experts], dim=1)
