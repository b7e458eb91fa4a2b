"""Three convolutions, for 8 x 8 digits and for tests."""

import torch
from torch import nn

from cmw_pipeline.models.blocks import Classifier, conv3x3, pooled
from cmw_pipeline.models.heads import NUM_EXPERTS, ExpertHead


def _layers(widths: list[int], strides: list[int]) -> nn.Sequential:
    """conv-BN-ReLU for each stride."""
    layers: list[nn.Module] = []
    for inputs, outputs, stride in zip(widths[:-1], widths[1:], strides, strict=True):
        layers += [conv3x3(inputs, outputs, stride), nn.BatchNorm2d(outputs), nn.ReLU()]
    return nn.Sequential(*layers)


class SmallCnn(Classifier):
    """conv-BN-ReLU three times, the last two with stride 2, then a linear layer."""

    def __init__(self, channels: int, num_classes: int, width: int = 32) -> None:
        super().__init__()
        self.features = _layers([channels, width, 2 * width, 2 * width], [1, 2, 2])
        self.classifier = nn.Linear(2 * width, num_classes)

    def embed(self, images: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) float -> (B, 2 width) pooled features."""
        return pooled(self.features(images))


class SmallCnnExperts(Classifier):
    """One convolution for all; three experts with two narrower ones (3/4 of the channels) and a head each."""

    def __init__(self, channels: int, num_classes: int, width: int = 32) -> None:
        super().__init__()
        self.features = _layers([channels, width], [1])
        widths = [width, 3 * width // 2, 3 * width // 2]
        self.experts = nn.ModuleList(_layers(widths, [2, 2]) for _ in range(NUM_EXPERTS))
        self.classifier = ExpertHead(widths[-1], num_classes)

    def embed(self, images: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) float -> (B, 3, 3/2 width) pooled features of each expert."""
        shared = self.features(images)
        return torch.stack([pooled(expert(shared)) for expert in self.experts], dim=1)
