"""CMW-Net: a weighting function for each group of classes of similar size (Shu et al., TPAMI 2023)."""

import torch

from cmw_pipeline.config.schema import CmwNet as Options
from cmw_pipeline.meta.class_groups import group_classes
from cmw_pipeline.meta.weight_net import WeightNet
from cmw_pipeline.methods.base import Batch, Method, Problem


class CmwNet(Method):
    """The weight is V(loss, group), the group that of the sample's given label."""

    def __init__(self, options: Options, problem: Problem) -> None:
        super().__init__(options, problem)
        self.weight_net = WeightNet(options.weight_net.hidden, options.groups)
        groups = group_classes(problem.class_counts.cpu().numpy(), options.groups)
        self.groups: torch.Tensor
        self.register_buffer("groups", torch.from_numpy(groups))

    def weights(self, losses: torch.Tensor, batch: Batch) -> torch.Tensor:
        """(B,) V(loss, group)."""
        weights: torch.Tensor = self.weight_net(losses, self.groups[batch.labels])
        return weights
