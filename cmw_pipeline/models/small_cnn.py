"""Three convolutions, for 8 x 8 digits and for tests."""

import torch
from torch import nn

from cmw_pipeline.models.blocks import conv3x3, pooled


class SmallCnn(nn.Module):
    """conv-BN-ReLU three times, the last two with stride 2, then a linear layer."""

    def __init__(self, channels: int, num_classes: int, width: int = 32) -> None:
        super().__init__()
        widths = [channels, width, 2 * width, 2 * width]
        layers: list[nn.Module] = []
        for stage, stride in enumerate((1, 2, 2)):
            outputs = widths[stage + 1]
            layers += [conv3x3(widths[stage], outputs, stride), nn.BatchNorm2d(outputs), nn.ReLU()]
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(widths[-1], num_classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) float -> (B, K) logits."""
        logits: torch.Tensor = self.classifier(pooled(self.features(images)))
        return logits
