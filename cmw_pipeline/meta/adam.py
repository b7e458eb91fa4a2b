"""Adam for the weighting's parameters, with an open state.

The update is PyTorch's functional one: its optimiser classes load the compiler at their first use, which
costs a small run more than a second, and hide in nested dicts what a checkpoint wants flat.
"""

from collections.abc import Iterable, Sequence

import torch
from torch import nn
from torch.optim.adam import adam

from cmw_pipeline.config.methods.weighting import WeightNet as Options


class Adam(nn.Module):
    """Adam over the parameters of a weighting (Θ), with L2 weight decay, as the published code uses it."""

    def __init__(self, parameters: Iterable[torch.Tensor], options: Options) -> None:
        super().__init__()
        self.moved = list(parameters)
        self.options = options
        names = ("mean", "square", "largest") if options.amsgrad else ("mean", "square")
        for name in names:
            for number, parameter in enumerate(self.moved):
                self.register_buffer(f"{name}{number}", torch.zeros_like(parameter))
        self.register_buffer("steps", torch.zeros(len(self.moved)))

    @torch.no_grad()
    def update(self, gradients: Sequence[torch.Tensor]) -> None:
        """Move the parameters in place, one gradient for each."""
        *moments, steps = self.buffers()
        count = len(self.moved)
        adam(
            self.moved,
            list(gradients),
            moments[:count],
            moments[count : 2 * count],
            moments[2 * count :],
            list(steps),
            foreach=True,
            capturable=steps.is_cuda,
            amsgrad=self.options.amsgrad,
            beta1=0.9,
            beta2=0.999,
            lr=self.options.lr,
            weight_decay=self.options.weight_decay,
            eps=1e-8,
            maximize=False,
        )
