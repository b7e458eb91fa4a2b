"""JS: the Jensen-Shannon divergence as a loss (Englesson & Azizpour, NeurIPS 2021)."""

import torch

from cmw_pipeline.config.methods.losses import JensenShannon as Options
from cmw_pipeline.methods.base import Batch, Method, Problem
from cmw_pipeline.methods.parts.losses import jensen_shannon


class JensenShannon(Method):
    """The divergence between label and prediction, scaled so that it is cross-entropy for π -> 0."""

    def __init__(self, options: Options, problem: Problem) -> None:
        super().__init__(options, problem)
        self.sample_loss = jensen_shannon(options.pi)

    def losses(self, logits: torch.Tensor, batch: Batch) -> torch.Tensor:
        """(B,) divergence from the given label."""
        return self.sample_loss(logits, batch.labels) if self.active else super().losses(logits, batch)
