"""Tau-normalisation: plain training, then class vectors of like length (Kang et al., ICLR 2020)."""

import torch
from torch import nn

from cmw_pipeline.config.methods.losses import TauNorm as Options
from cmw_pipeline.methods.base import Method, Problem
from cmw_pipeline.models.trunk import output_layer


class TauNorm(Method):
    """ERM whose output layer becomes w_k / |w_k|^τ without a bias, before it is tested for the last time."""

    def __init__(self, options: Options, problem: Problem) -> None:
        super().__init__(options, problem)
        self.tau = options.tau

    def finish(self, network: nn.Module) -> None:
        """Scale each class's vector."""
        layer = output_layer(network)
        with torch.no_grad():
            layer.weight.div_(layer.weight.norm(dim=1, keepdim=True) ** self.tau)
            layer.bias.zero_()
