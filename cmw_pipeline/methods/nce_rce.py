"""NCE+RCE: an active and a passive loss, both robust (Ma et al., ICML 2020)."""

import torch

from cmw_pipeline.config.methods.losses import NceRce as Options
from cmw_pipeline.methods.base import Batch, Method, Problem
from cmw_pipeline.methods.parts.losses import normalised_cross_entropy, reverse_cross_entropy


class NceRce(Method):
    """α NCE + β RCE."""

    def __init__(self, options: Options, problem: Problem) -> None:
        super().__init__(options, problem)
        self.alpha, self.beta = options.alpha, options.beta

    def losses(self, logits: torch.Tensor, batch: Batch) -> torch.Tensor:
        """(B,) with the given label."""
        if not self.active:
            return super().losses(logits, batch)
        first = normalised_cross_entropy(logits, batch.labels)
        return self.alpha * first + self.beta * reverse_cross_entropy(logits, batch.labels)
