"""Label smoothing of either sign (Lukasik et al., ICML 2020; Wei et al., ICML 2022)."""

import torch

from cmw_pipeline.config.methods.losses import LabelSmoothing as Options
from cmw_pipeline.methods.base import Method, Problem
from cmw_pipeline.methods.parts.losses import label_smoothing


class LabelSmoothing(Method):
    """Cross-entropy whose target leaves the rate r to all classes alike; with r < 0 it takes from them."""

    def __init__(self, options: Options, problem: Problem) -> None:
        super().__init__(options, problem)
        self.loss = label_smoothing(options.rate)

    def sample_loss(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """(B,) cross-entropy with the smoothed label."""
        return self.loss(logits, labels)
