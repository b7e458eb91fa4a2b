"""VGG with batch normalisation and dropout: the networks of selective classification.

In the form that SelectiveNet, Deep Gamblers and SAT use (after S. Liu and W. Deng, ACPR 2015): convolutions
are followed by ReLU and then batch norm, dropout of whole channels grows with the depth, and one hidden layer
comes before the classifier.
"""

import torch
from torch import nn

from cmw_pipeline.models.blocks import Classifier, pooled

_DROPOUT = 0.5
_LINEAR_STD = 0.01


class Vgg(Classifier):
    """Stages that each end in max pooling; what is left of the picture is averaged.

    Convolutions start as by He et al. (2015), by fan out; linear layers at a standard deviation of 0.01, as
    in the original VGG: with more, the first steps drive the logits so far that the noise of a dozen dropout
    layers hides every gradient.
    """

    def __init__(
        self, channels: int, width: int, num_classes: int, stages: list[tuple[int, float, int]]
    ) -> None:
        """Build it.

        Args:
            channels: of the picture.
            width: of the first stage.
            num_classes: K.
            stages: of each, its width over the first one's, the dropout after every convolution but the
                last, and its number of convolutions.
        """
        super().__init__()
        layers: list[nn.Module] = []
        inputs = channels
        for factor, dropout, depth in stages:
            for place in range(depth):
                outputs = factor * width
                layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU(), nn.BatchNorm2d(outputs)]
                layers += [nn.Dropout2d(dropout)] if place < depth - 1 else []
                inputs = outputs
            layers.append(nn.MaxPool2d(2, ceil_mode=True))
        self.features = nn.Sequential(*layers, nn.Dropout2d(_DROPOUT))
        hidden = [nn.Linear(inputs, inputs), nn.ReLU(), nn.BatchNorm1d(inputs), nn.Dropout(_DROPOUT)]
        self.hidden = nn.Sequential(*hidden)
        self.classifier = nn.Linear(inputs, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]
            elif isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=_LINEAR_STD)
                nn.init.zeros_(module.bias)

    def embed(self, images: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) float -> (B, F) hidden units, as many as the last stage is wide."""
        hidden: torch.Tensor = self.hidden(pooled(self.features(images)))
        return hidden


class Vgg16Bn(Vgg):
    """VGG-16 for CIFAR: of 32 x 32 pixels one is left."""

    def __init__(self, channels: int, num_classes: int, width: int = 64) -> None:
        stages = [(1, 0.3, 2), (2, 0.4, 2), (4, 0.4, 3), (8, 0.4, 3), (8, 0.4, 3)]
        super().__init__(channels, width, num_classes, stages)


class SmallVgg(Vgg):
    """Two stages of VGG-16, for 8 x 8 digits: thirteen layers under dropout need more data than that."""

    def __init__(self, channels: int, num_classes: int, width: int = 32) -> None:
        super().__init__(channels, width, num_classes, [(1, 0.3, 2), (2, 0.4, 2)])
