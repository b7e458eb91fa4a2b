"""Facts about published weights that a network can start from: where they are, and their hashes."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Pretrained:
    """A file that holds the weights of a network's trunk, under the names they have there."""

    url: str
    sha256: str


PRETRAINED = {
    "bcnn": Pretrained(  # torchvision's VGG16_Weights.IMAGENET1K_V1
        "https://download.pytorch.org/models/vgg16-397923af.pth",
        "397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0",
    ),
}
"""By the network's name."""
