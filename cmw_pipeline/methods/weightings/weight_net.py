"""MW-Net and CMW-Net: a learned function from a loss, and its class's size, to the weight.

With one group it is Meta-Weight-Net (Shu et al., NeurIPS 2019), with several CMW-Net (TPAMI 2023).
"""

import torch
from torch import nn

from cmw_pipeline.config.weightings import NetWeighting as Options
from cmw_pipeline.meta.class_groups import group_classes
from cmw_pipeline.meta.optimizers import Adam
from cmw_pipeline.meta.weight_net import WeightNet
from cmw_pipeline.methods.problem import Problem
from cmw_pipeline.methods.weightings.base import Weighting, Weights


class NetWeighting(Weighting):
    """The weight is V(loss, group), the group that of the label's class, by the classes' sizes.

    ``groups`` (K,) int64 says which head of the weight net each class uses.
    """

    def __init__(self, options: Options, problem: Problem) -> None:
        super().__init__(options, problem)
        self.normalisation = options.normalisation
        net = options.weight_net
        self.net = WeightNet(net.hidden, options.groups)
        self.adam = Adam(self.net.parameters(), net.lr, net.weight_decay, net.amsgrad)
        groups = group_classes(problem.class_counts.cpu().numpy(), options.groups)
        self.groups = nn.Buffer(torch.from_numpy(groups))

    def weights(self, losses: torch.Tensor, labels: torch.Tensor) -> Weights:
        """V(loss, group)."""
        return Weights(self.net(losses, self.groups[labels]), self.normalisation)

    def theta(self, labels: torch.Tensor) -> list[torch.Tensor]:
        """The weight net's parameters."""
        return self.adam.trained

    def learn(self, gradient: list[torch.Tensor]) -> None:
        """One step of Adam."""
        self.adam.update(gradient)
