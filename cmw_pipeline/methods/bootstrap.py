"""Bootstrap: part of the target is the prediction itself (Reed et al., 2014)."""

import torch

from cmw_pipeline.config.methods.losses import Bootstrap as Options
from cmw_pipeline.methods.base import Batch, Method, Problem
from cmw_pipeline.methods.parts.losses import bootstrap


class Bootstrap(Method):
    """Cross-entropy with b of the label and 1 − b of the prediction."""

    def __init__(self, options: Options, problem: Problem) -> None:
        super().__init__(options, problem)
        self.sample_loss = bootstrap(options.label_share)

    def losses(self, logits: torch.Tensor, batch: Batch) -> torch.Tensor:
        """(B,) cross-entropy with the mixed target."""
        return self.sample_loss(logits, batch.labels) if self.active else super().losses(logits, batch)
