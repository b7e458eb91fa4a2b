"""The bilinear CNN of WebFG-496's table: products of VGG-16's features, averaged over places."""

import torch
import torch.nn.functional as F
from torch import nn

from cmw_pipeline.models.blocks import Classifier

_FLOOR = 1.0e-5
"""Added under the square root, whose slope at zero is infinite."""


class Bcnn(Classifier):
    """B-CNN (Lin et al., ICCV 2015) on VGG-16 with its last pooling, as CMW-Net's code has it.

    x x^T averaged over the places of the feature map, square roots, length 1, one linear layer.
    """

    def __init__(self, channels: int, num_classes: int) -> None:
        super().__init__()
        from torchvision.models import vgg16  # a second, and few need it

        self.features = vgg16(num_classes=1).features
        if channels != 3:
            self.features[0] = nn.Conv2d(channels, 64, 3, padding=1)
        self.classifier = nn.Linear(512 * 512, num_classes)

    def embed(self, images: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) float -> (B, 262144) of length 1."""
        return bilinear(self.features(images))


def bilinear(features: torch.Tensor) -> torch.Tensor:
    """(B, F, H, W) features that are not negative -> (B, F²): pairs of them, rooted and of length 1."""
    places = features.flatten(2)
    products = places @ places.transpose(1, 2) / places.shape[2]
    return F.normalize((products.flatten(1) + _FLOOR).sqrt())
