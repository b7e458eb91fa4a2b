"""What a method and a weighting may know of the training set."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F

from cmw_pipeline.meta.weighting import WeightingFunction


@dataclass(frozen=True)
class Problem:
    """What a method may know of the training set: the given labels, never the clean ones."""

    num_classes: int
    labels: torch.Tensor
    """(N,) int64 given labels."""
    weighting: WeightingFunction | None = None
    """The frozen function, for a transfer."""
    first_logits: torch.Tensor | None = None
    """(N, K) logits of the run that the method starts from, on the training set without augmentation."""
    candidates: torch.Tensor | None = None
    """(N, K) bool candidate sets; the given labels are then only drawn from them."""
    first_memory: Mapping[str, torch.Tensor] = field(default_factory=dict)
    """What the method of the run that this one starts from remembered: the tensors of its state."""

    @property
    def allowed(self) -> torch.Tensor:
        """(N, K) bool: the candidates; of a sample with a label, that label alone."""
        if self.candidates is not None:
            return self.candidates
        return F.one_hot(self.labels, self.num_classes).bool()

    @property
    def labelled(self) -> torch.Tensor:
        """(N,) bool: the samples whose label is known, right or wrong."""
        if self.candidates is None:
            return torch.ones_like(self.labels, dtype=torch.bool)
        return self.allowed.sum(dim=1) == 1

    @property
    def class_counts(self) -> torch.Tensor:
        """(K,) int64 samples of each class by given label, of those whose label is known.

        Where none is, a sample counts for its candidates in equal shares; the sums are rounded.
        """
        known = torch.bincount(self.labels[self.labelled], minlength=self.num_classes)
        if bool(known.any()):
            return known
        shares = self.allowed.double() / self.allowed.sum(dim=1, keepdim=True)
        return shares.sum(dim=0).round().long()

    def relabelled(self, logits: torch.Tensor) -> "Problem":
        """The problem whose given labels are what (N, K) logits predict among the candidates."""
        labels = logits.masked_fill(~self.allowed, -torch.inf).argmax(dim=1)
        return dataclasses.replace(self, labels=labels, candidates=None)
