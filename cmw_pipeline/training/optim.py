"""The classifier's optimiser and its rate, a pure function of the epoch."""

import math

import torch
from torch import nn

from cmw_pipeline.config.schema import Constant, Cosine, Recipe, Sgd, Steps


def make_sgd(model: nn.Module, options: Sgd) -> torch.optim.SGD:
    """SGD over all of the classifier's parameters."""
    return torch.optim.SGD(
        model.parameters(),
        lr=options.lr,
        momentum=options.momentum,
        nesterov=options.nesterov,
        weight_decay=options.weight_decay,
    )


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Use this learning rate from now on."""
    for group in optimizer.param_groups:
        group["lr"] = rate


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
