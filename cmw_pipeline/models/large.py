"""Networks for large pictures, as torchvision and timm have them, from scratch."""

import torch
from torch import nn

from cmw_pipeline.models.blocks import Classifier


class ResNet50(Classifier):
    """torchvision's ResNet-50 (He et al., CVPR 2016), for pictures of 64 pixels and more."""

    architecture = "resnet50"

    def __init__(self, channels: int, num_classes: int) -> None:
        super().__init__()
        from torchvision.models import get_model  # a second, and few need it

        self.trunk = get_model(self.architecture, num_classes=num_classes)
        if channels != 3:
            self.trunk.conv1 = nn.Conv2d(channels, 64, 7, 2, 3, bias=False)
        self.classifier, self.trunk.fc = self.trunk.fc, nn.Identity()

    def embed(self, images: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) float -> (B, 2048) pooled features."""
        features: torch.Tensor = self.trunk(images)
        return features


class ResNeXt50(ResNet50):
    """torchvision's ResNeXt-50 of 32 groups (Xie et al., CVPR 2017)."""

    architecture = "resnext50_32x4d"


class InceptionResNetV2(Classifier):
    """timm's Inception-ResNet-v2 (Szegedy et al., AAAI 2017), for pictures of 75 pixels and more."""

    def __init__(self, channels: int, num_classes: int) -> None:
        super().__init__()
        from timm.models.inception_resnet_v2 import InceptionResnetV2  # seconds, and few need it

        self.trunk = InceptionResnetV2(num_classes=num_classes, in_chans=channels)
        self.classifier, self.trunk.classif = self.trunk.classif, nn.Identity()

    def embed(self, images: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) float -> (B, 1536) pooled features."""
        features: torch.Tensor = self.trunk(images)
        return features
