"""Logit adjustment, balanced softmax and vector scaling: losses that know the prior."""

import torch

from cmw_pipeline.config.methods.losses import LogitAdjustment as Options
from cmw_pipeline.methods.base import Method, Problem
from cmw_pipeline.methods.parts.losses import logit_adjustment


class LogitAdjustment(Method):
    """Cross-entropy of logits that are shifted by the log prior, and divided by a factor of the class."""

    def __init__(self, options: Options, problem: Problem) -> None:
        super().__init__(options, problem)
        self.loss = logit_adjustment(problem.class_counts, options.tau, options.gamma)

    def sample_loss(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """(B,) cross-entropy of the adjusted logits."""
        return self.loss(logits, labels)
