"""Two networks that teach each other, as one module."""

from collections.abc import Iterable

import torch
from torch import nn


class Twins(nn.Module):
    """Networks side by side, for Co-teaching, DivideMix, ELR+ and their kin.

    The prediction is the mean of their logits: ELR+ averages them and DivideMix adds them, which ranks the
    classes in the same way.
    """

    def __init__(self, towers: Iterable[nn.Module]) -> None:
        super().__init__()
        self.towers = nn.ModuleList(towers)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) float -> (B, 2, K) logits of each tower while training, else (B, K), their mean."""
        logits = torch.stack([tower(images) for tower in self.towers], dim=1)
        return logits if self.training else logits.mean(dim=1)
