"""The teacher of feature-dependent noise: ERM on clean labels that notes how sure it is of each image."""

from collections.abc import Mapping

import torch
from torch import nn

from cmw_pipeline.config.contracts import File, Run
from cmw_pipeline.config.methods.losses import NoiseTeacher as Options
from cmw_pipeline.methods.base import Batch, Method, Problem


class NoiseTeacher(Method):
    """``posterior`` (N, K) holds the softmax that each sample last got while it was trained on.

    In training mode and on the augmented view, as in the published generator (Zhang et al., ICLR 2021).
    """

    def __init__(self, options: Options, problem: Problem) -> None:
        super().__init__(options, problem)
        even = torch.full((self.num_samples, self.num_classes), 1 / self.num_classes)
        self.posterior = nn.Buffer(even)

    def observe(self, logits: torch.Tensor, batch: Batch) -> None:
        """Note the batch's softmax."""
        self.posterior[batch.rows] = logits.softmax(dim=1)

    def leaves(self) -> Mapping[File, torch.Tensor]:
        """The posterior, which biases with feature-dependent noise read."""
        return {Run.POSTERIOR: self.posterior}
