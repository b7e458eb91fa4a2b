"""Adam for the weighting's parameters, with an open state.

PyTorch's own class counts its steps on the host, so that no step could be captured or compiled, and loads the
compiler at its first use, which costs a small run more than a second.
"""

from collections.abc import Iterable, Sequence

import torch
from torch import nn

from cmw_pipeline.config.methods.weighting import WeightNet as Options

_BETA1, _BETA2, _EPSILON = 0.9, 0.999, 1e-8


class Adam(nn.Module):
    """Adam over the parameters of a weighting (Θ), with L2 weight decay, as the published code uses it.

    Source: Kingma and Ba, ICLR 2015, algorithm 1; AMSGrad of Reddi et al., ICLR 2018, where asked.
    """

    def __init__(self, parameters: Iterable[torch.Tensor], options: Options) -> None:
        super().__init__()
        self.moved = list(parameters)
        self.options = options
        self._names = ("mean", "square", "largest") if options.amsgrad else ("mean", "square")
        for name in self._names:
            for number, parameter in enumerate(self.moved):
                self.register_buffer(f"{name}{number}", torch.zeros_like(parameter))
        self.steps: torch.Tensor
        self.register_buffer("steps", torch.zeros((), dtype=torch.float64))

    @torch.no_grad()
    def update(self, gradients: Sequence[torch.Tensor]) -> None:
        """Move the parameters in place, one gradient for each."""
        mean, square, *largest = [
            [self.get_buffer(f"{name}{number}") for number in range(len(self.moved))] for name in self._names
        ]
        self.steps += 1
        slopes = torch._foreach_add(list(gradients), self.moved, alpha=self.options.weight_decay)
        torch._foreach_lerp_(mean, slopes, 1 - _BETA1)
        torch._foreach_mul_(square, _BETA2)
        torch._foreach_addcmul_(square, slopes, slopes, 1 - _BETA2)
        if largest:
            torch._foreach_maximum_(largest[0], square)
        scale = torch._foreach_sqrt(largest[0] if largest else square)
        torch._foreach_div_(scale, (1 - _BETA2**self.steps).sqrt())
        torch._foreach_add_(scale, _EPSILON)
        rate = self.options.lr / (1 - _BETA1**self.steps)
        moves = torch._foreach_div(torch._foreach_mul(mean, -rate), scale)
        torch._foreach_add_(self.moved, moves)
