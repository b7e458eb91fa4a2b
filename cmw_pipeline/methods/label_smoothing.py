"""Label smoothing of either sign (Lukasik et al., ICML 2020; Wei et al., ICML 2022)."""

import torch

from cmw_pipeline.config.methods.losses import LabelSmoothing as Options
from cmw_pipeline.methods.base import Batch, Method, Problem
from cmw_pipeline.methods.parts.losses import label_smoothing


class LabelSmoothing(Method):
    """Cross-entropy whose target leaves the rate r to all classes alike; with r < 0 it takes from them."""

    def __init__(self, options: Options, problem: Problem) -> None:
        super().__init__(options, problem)
        self.sample_loss = label_smoothing(options.rate)

    def losses(self, logits: torch.Tensor, batch: Batch) -> torch.Tensor:
        """(B,) cross-entropy with the smoothed label."""
        return self.sample_loss(logits, batch.labels) if self.active else super().losses(logits, batch)
