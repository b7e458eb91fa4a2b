"""The classifier's optimiser, and its learning rate as a pure function of the epoch."""

import math
from collections.abc import Iterable, Sequence

import torch
from torch import nn
from torch.optim.sgd import sgd

from cmw_pipeline.config.schema import Constant, Cosine, Recipe, Steps
from cmw_pipeline.config.schema import Sgd as SgdOptions


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
    def update(self, gradients: Sequence[torch.Tensor | None]) -> None:
        """Move the parameters in place, one gradient for each; one without a gradient stays as it is."""
        momenta = list(self.buffers())
        present = [n for n, gradient in enumerate(gradients) if gradient is not None]
        sgd(
            [self.moved[n] for n in present],
            [g for g in gradients if g is not None],
            [momenta[n] for n in present],
            foreach=True,
            weight_decay=self.options.weight_decay,
            momentum=self.options.momentum,
            lr=self.rate,
            dampening=0.0,
            nesterov=self.options.nesterov,
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
