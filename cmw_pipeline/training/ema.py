"""Exponential moving average of the classifier: the teacher."""

import copy

import torch
from torch import nn


class Teacher(nn.Module):
    """A copy whose parameters follow θ <- decay θ + (1 - decay) w at every ``update``.

    Its batch-norm statistics are the student's, copied at each update: the published code leaves the
    teacher's at their initial values during warm-up, which makes its first selection arbitrary.
    """

    def __init__(self, student: nn.Module) -> None:
        super().__init__()
        self.module = copy.deepcopy(student).requires_grad_(False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """The averaged network's logits."""
        logits: torch.Tensor = self.module(images)
        return logits

    @torch.no_grad()
    def update(self, student: nn.Module, decay: float) -> None:
        """Follow the student by one step; a decay of 1 stands still."""
        if decay == 1:
            return
        torch._foreach_lerp_(list(self.module.parameters()), list(student.parameters()), 1 - decay)
        for mine, theirs in zip(self.module.buffers(), student.buffers(), strict=True):
            mine.copy_(theirs)
