"""MW-Net: one learned function from a sample's loss to its weight (Shu et al., NeurIPS 2019)."""

import torch

from cmw_pipeline.config.schema import MwNet as Options
from cmw_pipeline.meta.weight_net import WeightNet
from cmw_pipeline.methods.base import Batch, Method, Problem


class MwNet(Method):
    """The weight is V(loss), the same V for all classes."""

    def __init__(self, options: Options, problem: Problem) -> None:
        super().__init__(options, problem)
        self.weight_net = WeightNet(options.weight_net.hidden, num_groups=1)
        self.groups: torch.Tensor
        self.register_buffer("groups", torch.zeros(problem.num_classes, dtype=torch.int64))

    def weights(self, losses: torch.Tensor, batch: Batch) -> torch.Tensor:
        """(B,) V(loss)."""
        weights: torch.Tensor = self.weight_net(losses, self.groups[batch.labels])
        return weights
