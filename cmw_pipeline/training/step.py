"""One training step: virtual step, meta step, real step."""

import torch
import torch.nn.functional as F
from torch import nn

from cmw_pipeline.errors import NumericsError
from cmw_pipeline.meta.lookahead import lookahead_gradient
from cmw_pipeline.meta.tangent import Forward
from cmw_pipeline.methods.base import Batch, Method
from cmw_pipeline.training.optim import Adam, Sgd


def training_step(
    model: nn.Module,
    method: Method,
    optimizer: Sgd,
    theta_optimizer: Adam | None,
    batch: Batch,
    meta_batch: Batch | None,
) -> torch.Tensor:
    """Train on one batch; with a meta batch, improve the weighting first.

    The forward pass at the current weights serves the virtual and the real step, and is the only one
    that moves batch-norm statistics.

    Returns:
        The scalar training loss, detached.

    Raises:
        NumericsError: a loss or a meta-gradient is not finite; nothing was updated with it.
    """
    model.train()
    if meta_batch is not None and theta_optimizer is not None:
        forward = Forward(model, batch.images)
        logits = forward.logits
        gradient = lookahead_gradient(
            forward,
            lambda z: method.objective(z, batch),
            meta_batch.images,
            lambda z: F.cross_entropy(z, meta_batch.labels),
            optimizer.rate,
            theta_optimizer.moved,
        )
        _check(torch.stack([g.sum() for g in gradient]).sum(), "the meta-gradient", batch)
        theta_optimizer.update(gradient)
    else:
        logits = model(batch.images)
    loss = method.objective(logits, batch)
    _check(loss, "the training loss", batch)
    optimizer.update(torch.autograd.grad(loss, optimizer.moved, materialize_grads=True))
    return loss.detach()


def _check(value: torch.Tensor, what: str, batch: Batch) -> None:
    if not bool(torch.isfinite(value)):
        rows = batch.rows[:8].tolist()
        raise NumericsError(
            f"{what} is {value.item()}; stopped before the step (batch of training samples {rows} ...)",
            "lower the recipe's learning rate, or look at these samples",
        )
