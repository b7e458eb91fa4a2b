"""What MW-Net, CMW-Net and CMW-Net-SL share: a weight net, its Adam, and the meta step."""

import torch
from torch import nn

from cmw_pipeline.config.methods.weighting import WeightNetMethod as Options
from cmw_pipeline.meta.adam import Adam
from cmw_pipeline.meta.weight_net import WeightNet
from cmw_pipeline.methods.base import Batch, MetaMethod, Problem, weighted_mean
from cmw_pipeline.methods.parts.losses import HEADS, base_loss, early_loss


class WeightNetMethod(MetaMethod):
    """The weight is V(loss, group), the group that of the sample's given label.

    ``groups`` (K,) int64 says which head of the weight net each class uses.
    """

    steady = True

    def __init__(self, options: Options, problem: Problem, groups: torch.Tensor, num_groups: int) -> None:
        super().__init__(options, problem)
        self.head = HEADS[options.base_loss]
        self.normalisation = options.normalisation
        self.sample_loss = base_loss(options.base_loss, problem)
        self.early_loss = early_loss(options.base_loss, self.sample_loss)
        self.weight_net = WeightNet(options.weight_net.hidden, num_groups)
        net = options.weight_net
        self.adam = Adam(self.weight_net.parameters(), net.lr, net.weight_decay, net.amsgrad)
        self.groups = nn.Buffer(groups)

    def losses(self, logits: torch.Tensor, batch: Batch) -> torch.Tensor:
        """(B,) the base loss with the given label."""
        return (self.sample_loss if self.active else self.early_loss)(logits, batch.labels)

    def weights(self, losses: torch.Tensor, batch: Batch) -> torch.Tensor:
        """(B,) V(loss, group)."""
        weights: torch.Tensor = self.weight_net(losses, self.groups[batch.labels])
        return weights

    def objective(self, logits: torch.Tensor, batch: Batch) -> torch.Tensor:
        """The weighted mean of the losses."""
        losses = self.losses(logits, batch)
        if not self.active:
            return losses.mean()
        return weighted_mean(losses, self.weights(losses.detach(), batch), self.normalisation)

    def theta(self, batch: Batch) -> list[torch.Tensor]:
        """The weight net's parameters."""
        return self.adam.moved

    def learn(self, gradient: list[torch.Tensor], batch: Batch) -> None:
        """One step of Adam."""
        self.adam.update(gradient)
