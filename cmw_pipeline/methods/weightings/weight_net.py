"""MW-Net and CMW-Net: a learned function from a loss, and its class's size, to the weight.

With one group it is Meta-Weight-Net (Shu et al., NeurIPS 2019), with several CMW-Net (TPAMI 2023).
"""

import torch
from torch import nn

from cmw_pipeline.config.weightings import NetWeighting as Options
from cmw_pipeline.meta.class_groups import group_classes
from cmw_pipeline.meta.levels import BoundedLevels
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
        bounded = options.levels == "bounded"
        self.net = WeightNet(net.hidden, options.groups, bounded)
        self.adam = Adam(self.net.parameters(), net.lr, net.weight_decay, net.amsgrad)
        counts = problem.class_counts.cpu().numpy()
        groups = group_classes(counts, options.groups)
        self.groups = nn.Buffer(torch.from_numpy(groups))
        self.levels = BoundedLevels(counts, groups, options.groups, options.level_power) if bounded else None

    def weights(self, losses: torch.Tensor, labels: torch.Tensor) -> Weights:
        """V(loss, group); where levels are bounded, at those of the batch, and after training the settled."""
        groups = self.groups[labels]
        values = self.net(losses, groups)
        if self.levels is not None and self.training:
            values = self.levels(values, groups)
        return Weights(values, self.normalisation)

    def settle(self, losses: torch.Tensor, labels: torch.Tensor) -> None:
        """Take the levels of the whole training set."""
        if self.levels is not None and self.net.level is not None:
            groups = self.groups[labels]
            self.net.level.fill_(1.0)
            self.net.level.copy_(self.levels.factors(self.net(losses, groups), groups))

    def theta(self, labels: torch.Tensor) -> list[torch.Tensor]:
        """The weight net's parameters."""
        return self.adam.trained

    def learn(self, gradient: list[torch.Tensor]) -> None:
        """One step of Adam."""
        self.adam.update(gradient)
