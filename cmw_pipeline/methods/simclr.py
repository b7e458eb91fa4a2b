"""SimCLR: features from two views of each picture, without labels (Chen et al., ICML 2020)."""

import dataclasses

import numpy as np
import torch
import torch.nn.functional as F

from cmw_pipeline.config.methods.self_supervised import SimClr as Options
from cmw_pipeline.methods.base import Batch, Method, Networks, Problem, Stream


class SimClr(Method):
    """NT-Xent of the projections, and cross-entropy of a linear probe that moves no feature.

    The labels reach nothing but the probe, whose accuracy is the one recorded.
    """

    def __init__(self, options: Options, problem: Problem) -> None:
        super().__init__(options, problem)
        self.temperature = options.temperature

    def turns(self, epoch: int) -> list[list[Stream]]:
        """Two strong views of everything."""
        return [[Stream(np.arange(self.num_samples), views=("strong", "strong"))]]

    def prepare(self, batch: Batch, networks: Networks) -> Batch:
        """One batch of 2B images: all first views, then all second ones."""
        return dataclasses.replace(batch, images=torch.cat([batch.images, *batch.views]))

    def losses(self, logits: torch.Tensor, batch: Batch) -> torch.Tensor:
        """(2B,) of (2B, K + 128) logits and projections."""
        guess, projection = logits[:, : self.num_classes], logits[:, self.num_classes :]
        probe = F.cross_entropy(guess, batch.labels.repeat(2), reduction="none")
        return probe + nt_xent(projection, self.temperature) if self.active else probe


def nt_xent(projections: torch.Tensor, temperature: float) -> torch.Tensor:
    """(2B,) contrastive loss: find the other view of the picture among the 2B − 1 other views.

    Args:
        projections: (2B, D): B first views, then B second ones in the same order.
        temperature: what the cosines are divided by.
    """
    size = len(projections)
    unit = F.normalize(projections, dim=1)
    itself = torch.eye(size, dtype=torch.bool, device=unit.device)
    cosines = (unit @ unit.T).masked_fill(itself, -torch.inf)
    other = torch.arange(size, device=unit.device).roll(size // 2)
    return F.cross_entropy(cosines / temperature, other, reduction="none")
