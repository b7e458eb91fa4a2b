"""VGG-19 with batch normalisation, as torchvision has it: the network of ANIMAL-10N's table."""

import torch
from torch import nn

from cmw_pipeline.models.blocks import Classifier


class Vgg19Bn(Classifier):
    """torchvision's VGG-19-BN from scratch (Simonyan and Zisserman, ICLR 2015), for 32 pixels and more.

    Its two hidden layers of 4096 units with dropout belong to the trunk.
    """

    def __init__(self, channels: int, num_classes: int) -> None:
        super().__init__()
        from torchvision.models import vgg19_bn  # a second, and few need it

        network = vgg19_bn(num_classes=num_classes)
        self.features, self.pool = network.features, network.avgpool
        if channels != 3:
            self.features[0] = nn.Conv2d(channels, 64, 3, padding=1)
        self.hidden, self.classifier = network.classifier[:-1], network.classifier[-1]

    def embed(self, images: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) float -> (B, 4096) hidden units."""
        hidden: torch.Tensor = self.hidden(self.pool(self.features(images)).flatten(1))
        return hidden
