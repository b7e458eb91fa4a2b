"""Predictions without training."""

import torch
from torch import nn

from cmw_pipeline.data.loader import ImageStore

_BATCH = 1000
MC_PASSES = 100
"""Of Monte-Carlo dropout, as published for selective classification."""


@torch.no_grad()
def predict(model: nn.Module, store: ImageStore, count: int) -> torch.Tensor:
    """(count, K) logits of the first ``count`` images of a store, in evaluation mode, unaugmented."""
    was_training = model.training
    model.eval()
    device = store.padded.device
    parts = torch.split(torch.arange(count, device=device), _BATCH)
    logits = torch.cat([model(store.plain(rows)) for rows in parts])
    model.train(was_training)
    return logits


@torch.no_grad()
def dropout_variance(
    model: nn.Module, store: ImageStore, count: int, passes: int = MC_PASSES
) -> torch.Tensor | None:
    """(count,) variance of the probabilities under dropout, mean over the classes (Gal & Ghahramani, 2016).

    Everything but dropout is in evaluation mode. None of a network without dropout.
    """
    layers = [module for module in model.modules() if isinstance(module, nn.Dropout) and module.p > 0]
    if not layers:
        return None
    was_training = model.training
    model.eval()
    for layer in layers:
        layer.train()
    parts = torch.split(torch.arange(count, device=store.padded.device), _BATCH)
    result = torch.cat([_variance(model, store.plain(rows), passes) for rows in parts])
    model.train(was_training)
    return result


def _variance(model: nn.Module, images: torch.Tensor, passes: int) -> torch.Tensor:
    mean = torch.zeros((), dtype=torch.float64, device=images.device)
    square = torch.zeros_like(mean)
    for number in range(1, passes + 1):  # Welford's way: no difference of large sums
        p = model(images).double().softmax(dim=1)
        step = p - mean
        mean = mean + step / number
        square = square + step * (p - mean)
    return (square / passes).mean(dim=1)
