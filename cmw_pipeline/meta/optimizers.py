"""SGD and Adam with an open state: the rate and all that a step remembers are tensors.

PyTorch's own classes hold the rate or count their steps on the host, or wait for the device to learn them, so
that no step could be captured or compiled; and the first use of its Adam loads the compiler, which costs a
small run more than a second.
"""

from collections.abc import Iterable, Sequence

import torch
from torch import nn

from cmw_pipeline.config.schema import Optimizer as Options

_BETA2, _EPSILON = 0.999, 1e-8
Tensors = list[torch.Tensor] | tuple[torch.Tensor, ...]


class Sgd(nn.Module):
    """SGD with momentum. Its buffers are the momenta, and the rate."""

    def __init__(self, parameters: Iterable[torch.Tensor], options: Options) -> None:
        super().__init__()
        self.trained = [parameter for parameter in parameters if parameter.requires_grad]
        self.options = options
        self.rate: torch.Tensor = nn.Buffer(torch.tensor(options.lr, dtype=torch.float64), persistent=False)
        for number, parameter in enumerate(self.trained):
            self.register_buffer(f"momentum{number}", torch.zeros_like(parameter))

    @property
    def momenta(self) -> list[torch.Tensor]:
        """One for each parameter that moves."""
        return [self.get_buffer(f"momentum{number}") for number in range(len(self.trained))]

    @torch.no_grad()
    def update(self, gradients: Sequence[torch.Tensor | None]) -> None:
        """Move the parameters in place, one gradient for each; one without a gradient stays as it is.

        d = g + decay w;  m <- momentum m + d;  w <- w - rate m, with Nesterov's w - rate (d + momentum m).
        """
        momenta = self.momenta
        present = [number for number, gradient in enumerate(gradients) if gradient is not None]
        weights, kept = [self.trained[n] for n in present], [momenta[n] for n in present]
        slopes: Tensors = [g for g in gradients if g is not None]
        options = self.options
        if options.weight_decay:
            slopes = torch._foreach_add(slopes, weights, alpha=options.weight_decay)
        if options.momentum:
            torch._foreach_mul_(kept, options.momentum)
            torch._foreach_add_(kept, slopes)
            slopes = torch._foreach_add(slopes, kept, alpha=options.momentum) if options.nesterov else kept
        torch._foreach_add_(weights, torch._foreach_mul(slopes, -self.rate))

    @torch.no_grad()
    def as_plain(self) -> tuple[torch.Tensor, Tensors]:
        """The next step written as w − α (g + r): α, and the r of each parameter, whatever its gradient g."""
        o, rate, weights = self.options, self.rate, self.trained
        drift: Tensors = list(torch._foreach_mul(weights, o.weight_decay))
        if not o.momentum:
            return rate, drift
        kept = o.momentum
        if o.nesterov:
            rate, kept = rate * (1 + kept), kept**2 / (1 + kept)
        return rate, torch._foreach_add(drift, self.momenta, alpha=kept)


class Adam(nn.Module):
    """Adam with L2 weight decay, as the published code uses it. Its buffers are the moments, and the rate.

    Source: Kingma and Ba, ICLR 2015, algorithm 1; AMSGrad of Reddi et al., ICLR 2018, where asked.
    """

    def __init__(
        self,
        parameters: Iterable[torch.Tensor],
        lr: float,
        weight_decay: float = 0.0,
        amsgrad: bool = False,
        beta1: float = 0.9,
    ) -> None:
        super().__init__()
        self.trained = [parameter for parameter in parameters if parameter.requires_grad]
        self.weight_decay, self.beta1 = weight_decay, beta1
        self.rate: torch.Tensor = nn.Buffer(torch.tensor(lr, dtype=torch.float64), persistent=False)
        self._names = ("mean", "square", "largest") if amsgrad else ("mean", "square")
        for name in self._names:
            for number, parameter in enumerate(self.trained):
                self.register_buffer(f"{name}{number}", torch.zeros_like(parameter))
        self.steps: torch.Tensor = nn.Buffer(torch.zeros((), dtype=torch.float64))

    @torch.no_grad()
    def update(self, gradients: Sequence[torch.Tensor | None]) -> None:
        """Move the parameters in place, one gradient for each; one without a gradient stays as it is."""
        present = [number for number, gradient in enumerate(gradients) if gradient is not None]
        mean, square, *largest = [
            [self.get_buffer(f"{name}{number}") for number in present] for name in self._names
        ]
        weights = [self.trained[number] for number in present]
        self.steps += 1
        slopes = torch._foreach_add([g for g in gradients if g is not None], weights, alpha=self.weight_decay)
        torch._foreach_lerp_(mean, slopes, 1 - self.beta1)
        torch._foreach_mul_(square, _BETA2)
        torch._foreach_addcmul_(square, slopes, slopes, 1 - _BETA2)
        if largest:
            torch._foreach_maximum_(largest[0], square)
        scale = torch._foreach_sqrt(largest[0] if largest else square)
        torch._foreach_div_(scale, (1 - _BETA2**self.steps).sqrt())
        torch._foreach_add_(scale, _EPSILON)
        rate = self.rate / (1 - self.beta1**self.steps)
        moves = torch._foreach_div(torch._foreach_mul(mean, -rate), scale)
        torch._foreach_add_(weights, moves)
