"""The classifier's optimiser, and its learning rate as a pure function of the epoch."""

import math
from collections.abc import Iterable

import torch

from cmw_pipeline.config.schema import Constant, Cosine, Recipe, Restarts, SlowCosine, Steps
from cmw_pipeline.config.schema import Optimizer as Options
from cmw_pipeline.meta.optimizers import Adam, Sgd

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
