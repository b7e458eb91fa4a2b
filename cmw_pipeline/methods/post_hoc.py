"""Post-hoc logit adjustment: plain training, then a shift by the prior (Menon et al., ICLR 2021)."""

import torch
from torch import nn

from cmw_pipeline.config.methods.losses import PostHoc as Options
from cmw_pipeline.methods.base import Method, Problem
from cmw_pipeline.models.trunk import output_layer


class PostHoc(Method):
    """ERM whose logits become z_k − τ log π_k, π the prior by given labels: a change of the bias, once."""

    def __init__(self, options: Options, problem: Problem) -> None:
        super().__init__(options, problem)
        sizes = problem.class_counts.clamp(min=1).to(torch.get_default_dtype())
        self.shift = nn.Buffer(options.tau * (sizes / sizes.sum()).log(), persistent=False)

    def finish(self, network: nn.Module) -> None:
        """Take the log prior from the bias."""
        with torch.no_grad():
            output_layer(network).bias.sub_(self.shift)
