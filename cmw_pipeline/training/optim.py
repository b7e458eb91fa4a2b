"""Optimisers with an open state, and the learning rate as a pure function of the epoch.

The updates are PyTorch's functional ones: its optimiser classes load the compiler at their first use, which
costs a small run more than a second, and hide in nested dicts what a checkpoint wants flat.
"""

import math
from collections.abc import Iterable, Sequence

import torch
from torch import nn
from torch.optim.adam import adam
from torch.optim.sgd import sgd

from cmw_pipeline.config.schema import Constant, Cosine, Recipe, Steps
from cmw_pipeline.config.schema import Sgd as SgdOptions
from cmw_pipeline.config.schema import WeightNet as AdamOptions


class Sgd(nn.Module):
    """SGD with momentum over a classifier; ``rate`` is set every epoch. Its buffers are the momenta."""

    def __init__(self, parameters: Iterable[torch.Tensor], options: SgdOptions) -> None:
        super().__init__()
        self.moved = [parameter for parameter in parameters if parameter.requires_grad]
        self.options = options
        self.rate = options.lr
        for number, parameter in enumerate(self.moved):
            self.register_buffer(f"momentum{number}", torch.zeros_like(parameter))

    @torch.no_grad()
    def update(self, gradients: Sequence[torch.Tensor]) -> None:
        """Move the parameters in place, one gradient for each."""
        sgd(
            self.moved,
            list(gradients),
            list(self.buffers()),
            foreach=True,
            weight_decay=self.options.weight_decay,
            momentum=self.options.momentum,
            lr=self.rate,
            dampening=0.0,
            nesterov=self.options.nesterov,
            maximize=False,
        )


class Adam(nn.Module):
    """Adam over the parameters of a weighting (Θ), with L2 weight decay, as the published code uses it."""

    def __init__(self, parameters: Iterable[torch.Tensor], options: AdamOptions) -> None:
        super().__init__()
        self.moved = list(parameters)
        self.options = options
        for name in ("mean", "square"):
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
            moments[count:],
            [],
            list(steps),
            foreach=True,
            capturable=steps.is_cuda,
            amsgrad=False,
            beta1=0.9,
            beta2=0.999,
            lr=self.options.lr,
            weight_decay=self.options.weight_decay,
            eps=1e-8,
            maximize=False,
        )


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
    if epoch < schedule.start:
        return base
    since, period = epoch - schedule.start, schedule.period
    while since >= period:
        since, period = since - period, period * schedule.mult
    return _half_cosine(base, schedule.floor, since / period)


def _half_cosine(top: float, floor: float, fraction: float) -> float:
    return floor + (top - floor) * (1 + math.cos(math.pi * fraction)) / 2
