"""One training step: virtual step, meta step, real step."""

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence

import torch
from torch import nn

from cmw_pipeline.errors import NumericsError
from cmw_pipeline.meta.lookahead import lookahead_gradient
from cmw_pipeline.meta.optimizers import Sgd
from cmw_pipeline.meta.tangent import Forward, LowMemoryForward, copied_buffers
from cmw_pipeline.methods.base import Batch, Method
from cmw_pipeline.models.trunk import features_noted
from cmw_pipeline.training.optim import Optimizer


def training_step(
    model: nn.Module,
    method: Method,
    optimizer: Optimizer,
    batch: Batch,
    meta_batch: Batch | None,
    low_memory: bool = False,
    check_finite: bool = True,
) -> torch.Tensor:
    """Train on one prepared batch; with a meta batch, improve the weighting first.

    The forward pass at the current weights serves the virtual and the real step, and is the only one
    that moves batch-norm statistics. ``low_memory`` repeats it, so that one set of activations is alive at a
    time.

    Returns:
        The scalar training loss, detached.

    Raises:
        NumericsError: a loss or a meta-gradient is not finite; nothing was updated with it. Only where
            ``check_finite``, which makes the host wait for the device.
    """
    model.train()
    if meta_batch is None:
        meta_batch = method.meta_batch(batch)
    if meta_batch is None:
        logits = method.logits(model, batch)
        method.observe(logits.detach(), batch)
    else:
        logits = _logits_and_meta_step(model, method, optimizer, batch, meta_batch, low_memory, check_finite)
    loss = method.objective(logits, batch, method.weigh)
    if check_finite:
        _check(loss, "the training loss", batch)
    optimizer.update(torch.autograd.grad(loss, optimizer.trained, allow_unused=True))
    return loss.detach()


def _logits_and_meta_step(
    model: nn.Module,
    method: Method,
    optimizer: Optimizer,
    batch: Batch,
    meta_batch: Batch,
    low_memory: bool,
    check_finite: bool,
) -> torch.Tensor:
    """The logits of the real step: of the virtual step's pass, or where its images differ of another one.

    Of two passes only the second moves batch-norm statistics.
    """
    images = method.virtual_images(batch)
    buffers = None if images is batch.images else copied_buffers(model)
    forward = (LowMemoryForward if low_memory else Forward)(model, images)
    method.observe(forward.logits.detach(), batch)
    lr, drift = virtual_step(method, optimizer)
    meta_step(forward, method, batch, method.prepare_meta(meta_batch), lr, drift, check_finite)
    if buffers is None:
        return forward.logits
    with torch.no_grad():
        torch._foreach_copy_(list(model.buffers()), list(buffers.values()))
    return method.logits(model, batch)


def virtual_step(method: Method, optimizer: Optimizer) -> tuple[torch.Tensor, Sequence[torch.Tensor] | None]:
    """Rate and drift of the virtual step: a plain one, or the optimiser's own where the method asks."""
    if not method.facts.steps_as_optimizer:
        return optimizer.rate, None
    assert isinstance(optimizer, Sgd), "the stage refuses others"
    return optimizer.as_plain()


def meta_step(
    forward: Forward,
    method: Method,
    batch: Batch,
    meta_batch: Batch,
    lr: float | torch.Tensor,
    drift: Sequence[torch.Tensor] | None = None,
    check_finite: bool = True,
) -> None:
    """Improve the weighting by the gradient of the meta loss after a virtual step.

    Args:
        forward: the batch's pass through the model.
        method: with the weighting under it.
        batch: prepared.
        meta_batch: prepared.
        lr: α of the virtual step.
        drift: what it adds to the gradient of each weight; None: nothing.
        check_finite: whether to look, which makes the host wait for the device.

    Raises:
        NumericsError: the gradient is not finite; the weighting is as before.
    """
    with _with_features(meta_batch, forward.model, method) as judge:
        gradient = lookahead_gradient(
            forward,
            lambda z: method.virtual_objective(z, batch),
            judge.images,
            lambda z: method.meta_objective(z, judge),
            lr,
            method.theta(batch),
            drift,
        )
    if check_finite:
        _check(torch.stack([g.sum() for g in gradient]).sum(), "the meta-gradient", batch)
    method.learn(gradient)


@contextlib.contextmanager
def _with_features(batch: Batch, model: nn.Module, method: Method) -> Iterator[Batch]:
    """The meta batch, whose evidence tells what the output layer was last given, where that is read."""
    if not method.weighting.meta_loss.reads_features:
        yield batch
        return
    evidence = dict(batch.evidence)
    with features_noted(model, evidence):
        yield dataclasses.replace(batch, evidence=evidence)


def _check(value: torch.Tensor, what: str, batch: Batch) -> None:
    if not bool(torch.isfinite(value)):
        rows = batch.rows[:8].tolist()
        raise NumericsError(
            f"{what} is {value.item()}; stopped before the step (batch of training samples {rows} ...)",
            "lower the learning rate, or look at these samples",
        )
