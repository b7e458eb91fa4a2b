"""What the losses of a batch count: weights, and how their sum is normalised."""

import dataclasses
from dataclasses import dataclass
from typing import Literal

import torch


@dataclass(frozen=True)
class Weights:
    """What the losses ℓ of a batch count: Σ v_i ℓ_i / c."""

    values: torch.Tensor
    """(B,) v."""
    normalisation: Literal["mean", "sum", "none"] = "mean"
    """What c is: B, the detached Σ v_i (1 where all vanish), or 1."""

    @property
    def rest(self) -> "Weights":
        """What each weight lacks to 1; nothing where it lies above, as those of bounded levels may."""
        return dataclasses.replace(self, values=(1 - self.values).clamp(min=0))

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
