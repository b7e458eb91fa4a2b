"""A loop of one's own: PyTorch and nothing else."""

import torch

from cmw_pipeline import Reweighter


def train(model, loader, trusted, class_counts, **options):
    """Train on (images, labels), under a weighting that is learned on trusted ones."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
    reweighter = Reweighter(model, "cmw-net", class_counts=class_counts, lr=optimizer, **options)
    for (images, labels), meta in zip(loader, trusted, strict=False):
        loss = reweighter.step(images, labels, meta)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return reweighter
