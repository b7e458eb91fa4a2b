"""Bootstrap: part of the target is the prediction itself (Reed et al., 2014)."""

import torch

from cmw_pipeline.config.methods.losses import Bootstrap as Options
from cmw_pipeline.methods.base import Method, Problem
from cmw_pipeline.methods.parts.losses import bootstrap


class Bootstrap(Method):
    """Cross-entropy with b of the label and 1 − b of the prediction."""

    def __init__(self, options: Options, problem: Problem) -> None:
        super().__init__(options, problem)
        self.loss = bootstrap(options.label_share)

    def sample_loss(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """(B,) cross-entropy with the mixed target."""
        return self.loss(logits, labels)
