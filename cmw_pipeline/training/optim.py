"""The classifier's optimiser, and its learning rate as a pure function of the epoch."""

import math
from collections.abc import Iterable, Sequence

import torch
from torch import nn

from cmw_pipeline.config.schema import Constant, Cosine, Recipe, Restarts, SlowCosine, Steps
from cmw_pipeline.config.schema import Optimizer as Options
from cmw_pipeline.meta.adam import Adam

Tensors = list[torch.Tensor] | tuple[torch.Tensor, ...]


class Sgd(nn.Module):
    """SGD with momentum over a classifier. Its buffers are the momenta, and the rate as a tensor.

    PyTorch's own class holds the rate as a number or waits for the device to learn it; as a tensor it can
    change under a captured or compiled step.
    """

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


Optimizer = Sgd | Adam


def optimizer(parameters: Iterable[torch.Tensor], options: Options) -> Optimizer:
    """The one that a recipe asks for, over the parameters that are not frozen."""
    if options.name == "sgd":
        return Sgd(parameters, options)
    return Adam(parameters, options.lr, options.weight_decay, beta1=options.momentum)


def learning_rate(recipe: Recipe, epoch: int) -> float:
    """The classifier's learning rate in an epoch, 0-based.

    During ``warmup_epochs`` W the rate is (epoch + 1) / W of the base rate; the schedule itself counts
    from epoch 0.
    """
    base, schedule = recipe.optimizer.lr, recipe.schedule
    if epoch < schedule.warmup_epochs:
        return base * (epoch + 1) / schedule.warmup_epochs
    if isinstance(schedule, Constant):
        return base
    if isinstance(schedule, Steps):
        return base * schedule.factor ** sum(epoch >= milestone for milestone in schedule.milestones)
    if isinstance(schedule, Cosine):
        return _half_cosine(base, schedule.floor, epoch / recipe.epochs)
    if isinstance(schedule, SlowCosine):
        return base * math.cos(7 * math.pi / 16 * epoch / recipe.epochs)
    return _restarted(base, schedule, epoch)


def _restarted(base: float, schedule: Restarts, epoch: int) -> float:
    if epoch < schedule.start:
        return base
    since, period = epoch - schedule.start, schedule.period
    while since >= period:
        since, period = since - period, period * schedule.mult
    return _half_cosine(base, schedule.floor, since / period)


def _half_cosine(top: float, floor: float, fraction: float) -> float:
    return floor + (top - floor) * (1 + math.cos(math.pi * fraction)) / 2
