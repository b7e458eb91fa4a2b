"""LDAM: larger margins for rare classes (Cao et al., NeurIPS 2019)."""

import torch

from cmw_pipeline.config.methods.losses import Ldam as Options
from cmw_pipeline.methods.base import Method, Problem
from cmw_pipeline.methods.parts.losses import ldam


class Ldam(Method):
    """Cross-entropy behind a margin on a cosine head."""

    def __init__(self, options: Options, problem: Problem) -> None:
        super().__init__(options, problem)
        self.loss = ldam(problem.class_counts, options.largest_margin)

    def sample_loss(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """(B,) cross-entropy behind the margin of the given label's class."""
        return self.loss(logits, labels)
