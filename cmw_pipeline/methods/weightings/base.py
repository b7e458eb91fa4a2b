"""The contract between a method and a weighting: how much each sample's loss counts.

A weighting is an ``nn.Module``. The parameters that its meta step learns (Θ), and whatever else it remembers,
are in its ``state_dict``, which a checkpoint holds. The defaults below are uniform; a weighting overrides
what differs.
"""

from collections.abc import Callable

import torch
from torch import nn

from cmw_pipeline.config.weightings import WeightingBase
from cmw_pipeline.meta.weights import Weights as Weights
from cmw_pipeline.methods.meta_loss import meta_loss
from cmw_pipeline.methods.problem import Problem

Weigh = Callable[[torch.Tensor, torch.Tensor], Weights]
"""(B,) losses, (B,) int64 labels that they are the losses of -> what the losses count."""


class Weighting(nn.Module):
    """Answers what the method and the meta step ask; as it stands, all losses count alike."""

    def __init__(self, options: WeightingBase, problem: Problem) -> None:
        super().__init__()
        self.first_epoch = options.start_epoch
        self.meta_loss = meta_loss(options)

    def weights(self, losses: torch.Tensor, labels: torch.Tensor) -> Weights:
        """The weights of the real step, from (B,) detached losses and the labels they are of."""
        return Weights(torch.ones_like(losses))

    def settle(self, losses: torch.Tensor, labels: torch.Tensor) -> None:
        """Called once after training, in evaluation mode, with the (N,) losses of all training samples."""

    def virtual_weights(self, losses: torch.Tensor, labels: torch.Tensor) -> Weights:
        """Those of the virtual step, functions of Θ."""
        return self.weights(losses, labels)

    def theta(self, labels: torch.Tensor) -> list[torch.Tensor]:
        """What the meta step learns; called before the virtual step of a batch with (B,) labels."""
        raise NotImplementedError

    def learn(self, gradient: list[torch.Tensor]) -> None:
        """Take the gradient of the meta loss with respect to Θ."""
        raise NotImplementedError
