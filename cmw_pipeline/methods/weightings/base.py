"""The contract between a method and a weighting: how much each sample's loss counts.

A weighting is an ``nn.Module``. The parameters that its meta step learns (Θ), and whatever else it remembers,
are in its ``state_dict``, which a checkpoint holds. The defaults below are uniform; a weighting overrides
what differs.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from cmw_pipeline.config.weightings import WeightingBase
from cmw_pipeline.methods.meta_loss import meta_loss
from cmw_pipeline.methods.problem import Problem


@dataclass(frozen=True)
class Weights:
    """What the losses ℓ of a batch count: Σ v_i ℓ_i / c."""

    values: torch.Tensor
    """(B,) v."""
    normalisation: Literal["mean", "sum", "none"] = "mean"
    """What c is: B, the detached Σ v_i (1 where all vanish), or 1."""

    @property
    def rest(self) -> "Weights":
        """What each weight lacks to 1."""
        return dataclasses.replace(self, values=1 - self.values)

    def of(self, rows: torch.Tensor) -> "Weights":
        """The weights of these rows of the batch, (B,) int64, in their order."""
        return dataclasses.replace(self, values=self.values[rows])

    def mean(self, losses: torch.Tensor) -> torch.Tensor:
        """The weighted mean of (B,) losses."""
        total = (self.values * losses).sum()
        if self.normalisation == "none":
            return total
        if self.normalisation == "mean":
            return total / len(losses)
        mass = self.values.detach().sum()
        return total / torch.where(mass > 0, mass, 1.0)

    def factors(self, among: torch.Tensor | None = None) -> torch.Tensor:
        """(B,) B v_i / c: the factors of the losses in a plain mean over the batch.

        Args:
            among: (B,) 1 for the samples whose weights Σ v_i is taken over, else 0; None: all.
        """
        if self.normalisation == "none":
            return len(self.values) * self.values
        if self.normalisation == "mean":
            return self.values
        values = self.values.detach()
        mean = values.mean() if among is None else (among * values).sum() / among.sum().clamp(min=1)
        return self.values / torch.where(mean > 0, mean, 1.0)


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
