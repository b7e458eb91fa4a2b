"""Predictions without training."""

import functools
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn

from cmw_pipeline.config.schema import Recipe
from cmw_pipeline.data.loader import Store
from cmw_pipeline.runtime.team import SOLO, Team
from cmw_pipeline.training.parallel import gathered
from cmw_pipeline.training.precision import as_computed

_cross_entropy = functools.partial(F.cross_entropy, reduction="none")
MC_PASSES = 100
"""Forward passes of Monte-Carlo dropout for each sample, as published for selective classification."""


@torch.no_grad()
def predict(model: nn.Module, store: Store, count: int, recipe: Recipe, team: Team = SOLO) -> torch.Tensor:
    """(count, K) logits of the first ``count`` images of a store, in evaluation mode, unaugmented.

    Computed in the recipe's precision. Each process of a team predicts a part, and all of them get the whole.
    """
    return _over_images(model, store, count, recipe, team, model)


@torch.no_grad()
def sample_losses(
    model: nn.Module,
    store: Store,
    labels: torch.Tensor,
    recipe: Recipe,
    team: Team = SOLO,
    loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] = _cross_entropy,
) -> torch.Tensor:
    """(N,) loss of the first N images with their labels; one batch's logits at a time."""
    done = _part(len(labels), team).start

    def losses(images: torch.Tensor) -> torch.Tensor:
        nonlocal done
        done += len(images)
        return loss(model(images), labels[done - len(images) : done])

    return _over_images(model, store, len(labels), recipe, team, losses)


def _over_images(
    model: nn.Module,
    store: Store,
    count: int,
    recipe: Recipe,
    team: Team,
    ask: Callable[[torch.Tensor], torch.Tensor],
) -> torch.Tensor:
    """What ``ask`` says of each of the first ``count`` images, the model in evaluation mode."""
    was_training = model.training
    model.eval()
    images = store.in_order(_part(count, team))
    own = torch.cat([as_computed(recipe, ask, batch) for batch in images])
    model.train(was_training)
    if team.size == 1:
        return own
    # Parts of equal size; the last ones overlap those before where the count cannot be divided.
    size, starts = len(own), [_part(count, Team(rank, team.size)).start for rank in range(team.size)]
    whole = own.new_empty(count, *own.shape[1:])
    for start, part in zip(starts, torch.split(gathered(own, team), size), strict=True):
        whole[start : start + size] = part
    return whole


def _part(count: int, team: Team) -> range:
    """The images that a process of a team predicts."""
    size = -(-count // team.size)
    start = min(team.rank * size, count - size)
    return range(start, start + size)


@torch.no_grad()
def dropout_variance(
    model: nn.Module, store: Store, count: int, recipe: Recipe, passes: int = MC_PASSES
) -> torch.Tensor | None:
    """(count,) variance of the probabilities under dropout, mean over the classes (Gal & Ghahramani, 2016).

    Everything but dropout is in evaluation mode. None of a network without dropout.
    """
    kinds = nn.Dropout, nn.Dropout2d
    layers = [module for module in model.modules() if isinstance(module, kinds) and module.p > 0]
    if not layers:
        return None
    was_training = model.training
    model.eval()
    for layer in layers:
        layer.train()
    ask = functools.partial(_variance, model, passes)
    result = torch.cat([as_computed(recipe, ask, images) for images in store.in_order(range(count))])
    model.train(was_training)
    return result


def _variance(model: nn.Module, passes: int, images: torch.Tensor) -> torch.Tensor:
    mean = torch.zeros((), dtype=torch.float64, device=images.device)
    square = torch.zeros_like(mean)
    for number in range(1, passes + 1):  # Welford's way: no difference of large sums
        p = model(images).double().softmax(dim=1)
        step = p - mean
        mean = mean + step / number
        square = square + step * (p - mean)
    return (square / passes).mean(dim=1)
