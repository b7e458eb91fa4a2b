"""JS: the Jensen-Shannon divergence as a loss (Englesson & Azizpour, NeurIPS 2021)."""

import torch

from cmw_pipeline.config.methods.losses import JensenShannon as Options
from cmw_pipeline.methods.base import Method, Problem
from cmw_pipeline.methods.parts.losses import jensen_shannon


class JensenShannon(Method):
    """The divergence between label and prediction, scaled so that it is cross-entropy for π -> 0."""

    def __init__(self, options: Options, problem: Problem) -> None:
        super().__init__(options, problem)
        self.loss = jensen_shannon(options.pi)

    def sample_loss(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """(B,) divergence from the given label."""
        return self.loss(logits, labels)
