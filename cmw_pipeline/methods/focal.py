"""Focal loss: samples that are already predicted with confidence count less (Lin et al., ICCV 2017)."""

import torch

from cmw_pipeline.config.methods.losses import Focal as Options
from cmw_pipeline.methods.base import Method, Problem
from cmw_pipeline.methods.parts.losses import focal


class Focal(Method):
    """(1 − p)^γ times cross-entropy, of the softmax or of a logistic question for each class."""

    def __init__(self, options: Options, problem: Problem) -> None:
        super().__init__(options, problem)
        self.loss = focal(options.gamma, options.form)

    def sample_loss(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """(B,) focal loss with the given label."""
        return self.loss(logits, labels)
