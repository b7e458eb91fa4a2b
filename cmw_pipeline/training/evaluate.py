"""Predictions without training."""

import torch
from torch import nn

from cmw_pipeline.data.loader import ImageStore

_BATCH = 1000


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
