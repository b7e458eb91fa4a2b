"""Rows of numbers, and the learned function used again where nothing is trusted."""

import torch
import torch.nn.functional as F
from torch import nn

from cmw_pipeline import Reweighter, load_weighting


def network(columns, classes):
    """A perceptron with one hidden layer."""
    return nn.Sequential(nn.Flatten(), nn.Linear(columns, 64), nn.ReLU(), nn.Linear(64, classes))


def train(model, loader, trusted, class_counts, **options):
    """Train on (rows, labels), under a weighting that is learned on trusted ones."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
    reweighter = Reweighter(model, "cmw-net", class_counts=class_counts, lr=optimizer, **options)
    for (rows, labels), meta in zip(loader, trusted, strict=False):
        loss = reweighter.step(rows, labels, meta)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return reweighter


def train_again(model, loader, folder, class_counts):
    """Train under the function that ``reweighter.save(folder)`` wrote; nothing is trusted or learned."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    weighting = load_weighting(folder).for_classes(class_counts)
    for rows, labels in loader:
        losses = F.cross_entropy(model(rows), labels, reduction="none")
        loss = weighting.mean(losses, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
