"""Classifiers of vectors: a linear layer, and one with a hidden layer before it."""

import torch
from torch import nn

from cmw_pipeline.models.blocks import Classifier


class Linear(Classifier):
    """One linear layer, which cannot learn much by heart."""

    def __init__(self, channels: int, num_classes: int) -> None:
        super().__init__()
        self.classifier = nn.Linear(channels, num_classes)

    def embed(self, images: torch.Tensor) -> torch.Tensor:
        """(B, D) float, as it is."""
        return images


class Mlp(Classifier):
    """A hidden layer of ``width`` rectified units, then a linear layer."""

    def __init__(self, channels: int, num_classes: int, width: int = 64) -> None:
        super().__init__()
        self.hidden = nn.Sequential(nn.Linear(channels, width), nn.ReLU())
        self.classifier = nn.Linear(width, num_classes)

    def embed(self, images: torch.Tensor) -> torch.Tensor:
        """(B, D) float -> (B, width)."""
        hidden: torch.Tensor = self.hidden(images)
        return hidden
