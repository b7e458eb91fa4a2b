"""GJS: the generalised Jensen-Shannon divergence of the label and two views (Englesson & Azizpour, 2021)."""

import dataclasses

import numpy as np
import torch

from cmw_pipeline.config.methods.losses import Gjs as Options
from cmw_pipeline.methods.base import Batch, Method, Networks, Problem, Stream
from cmw_pipeline.methods.parts.losses import generalised_jensen_shannon


class Gjs(Method):
    """JS, whose prediction is that on two views; it grows where they are predicted differently."""

    def __init__(self, options: Options, problem: Problem) -> None:
        super().__init__(options, problem)
        self.loss = generalised_jensen_shannon(options.pi)
        self.second_view = options.strong_view

    def turns(self, epoch: int) -> list[list[Stream]]:
        """Two views of everything."""
        return [[Stream(np.arange(self.num_samples), views=("weak", self.second_view))]]

    def prepare(self, batch: Batch, networks: Networks) -> Batch:
        """One batch of 2B images: all first views, then all second ones."""
        return dataclasses.replace(batch, images=torch.cat([batch.images, *batch.views]))

    def losses(self, logits: torch.Tensor, batch: Batch) -> torch.Tensor:
        """(B,) of (2B, K) logits; before the start the cross-entropy of the first view."""
        first, second = logits.chunk(2)
        return self.loss(first, second, batch.labels) if self.active else super().losses(first, batch)
