"""VGG-16 with batch normalisation and dropout for CIFAR: the network of selective classification.

In the form that SelectiveNet, Deep Gamblers and SAT use (after S. Liu and W. Deng, ACPR 2015): convolutions
are followed by ReLU and then batch norm, dropout grows with the depth, and one hidden layer of 512 units
comes before the classifier.
"""

import torch
from torch import nn

from cmw_pipeline.models.blocks import Classifier, pooled

_STAGES = ((1, 0.3), (2, 0.4), (4, 0.4), (8, 0.4), (8, 0.4))
"""Width in units of the network's, and dropout after every convolution of the stage but the last."""
_DEPTHS = (2, 2, 3, 3, 3)
_DROPOUT = 0.5


class Vgg16Bn(Classifier):
    """Five stages that each end in max pooling; of a small picture, too, one pixel is left."""

    def __init__(self, channels: int, num_classes: int, width: int = 64) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inputs = channels
        for (factor, dropout), depth in zip(_STAGES, _DEPTHS, strict=True):
            for place in range(depth):
                outputs = factor * width
                layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU(), nn.BatchNorm2d(outputs)]
                layers += [nn.Dropout(dropout)] if place < depth - 1 else []
                inputs = outputs
            layers.append(nn.MaxPool2d(2, ceil_mode=True))
        self.features = nn.Sequential(*layers, nn.Dropout(_DROPOUT))
        hidden = [nn.Linear(inputs, inputs), nn.ReLU(), nn.BatchNorm1d(inputs), nn.Dropout(_DROPOUT)]
        self.hidden = nn.Sequential(*hidden)
        self.classifier = nn.Linear(inputs, num_classes)
        for module in self.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]

    def embed(self, images: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) float -> (B, 8 width) hidden units."""
        hidden: torch.Tensor = self.hidden(pooled(self.features(images)))
        return hidden
