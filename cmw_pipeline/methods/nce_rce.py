"""NCE+RCE: an active and a passive loss, both robust (Ma et al., ICML 2020)."""

import torch

from cmw_pipeline.config.methods.losses import NceRce as Options
from cmw_pipeline.methods.base import Method, Problem
from cmw_pipeline.methods.parts.losses import normalised_cross_entropy, reverse_cross_entropy


class NceRce(Method):
    """α NCE + β RCE."""

    def __init__(self, options: Options, problem: Problem) -> None:
        super().__init__(options, problem)
        self.alpha, self.beta = options.alpha, options.beta

    def sample_loss(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """(B,) with the given label."""
        first = normalised_cross_entropy(logits, labels)
        return self.alpha * first + self.beta * reverse_cross_entropy(logits, labels)
