"""One rule an operation: the tangent of its (first) output from the tangents of its arguments."""

from collections.abc import Callable
from typing import Any

import torch

from cmw_pipeline.meta.record import NoRule, Step

aten = torch.ops.aten
Moves = list[torch.Tensor | None]


def _linear(step: Step, moves: Moves) -> torch.Tensor:
    """Linear in the first argument, and nothing else moves."""
    moved: torch.Tensor = step.func(moves[0], *step.args[1:], **step.kwargs)
    return moved


def _sum(parts: Moves) -> torch.Tensor:
    first, *rest = [part for part in parts if part is not None]
    for part in rest:
        first = first + part
    return first


def _add(step: Step, moves: Moves) -> torch.Tensor:
    if step.kwargs:
        raise NoRule("scaled addition")
    return _sum(moves).expand(step.writes[0].shape)


def _mul(step: Step, moves: Moves) -> torch.Tensor:
    (x, y), (a, b) = step.args, moves
    return _sum([None if a is None else a * y, None if b is None else x * b])


def _div(step: Step, moves: Moves) -> torch.Tensor:
    if moves[1] is not None:
        raise NoRule("a divisor that moves")
    moved: torch.Tensor = aten.div(moves[0], step.args[1])
    return moved


def _gelu(step: Step, moves: Moves) -> torch.Tensor:
    """By x, element by element: the backward kernel is the tangent."""
    moved: torch.Tensor = aten.gelu_backward(moves[0], step.args[0], **step.kwargs)
    return moved


def _addmm(step: Step, moves: Moves) -> torch.Tensor:
    if step.kwargs:
        raise NoRule("scaled product")
    (_, x, w), (bias, a, b) = step.args, moves
    parts = [None if a is None else a @ w, None if b is None else x @ b]
    return _sum([*parts, None if bias is None else bias.expand(step.writes[0].shape)])


def _convolution(step: Step, moves: Moves) -> torch.Tensor:
    x, w, _, *geometry = step.args
    a, b, bias = moves[:3]
    parts = [
        None if a is None else aten.convolution(a, w, None, *geometry),
        None if b is None else aten.convolution(x, b, None, *geometry),
        None if bias is None else bias.view(-1, *[1] * (w.dim() - 2)).expand(step.writes[0].shape),
    ]
    return _sum(parts)


def _batch_norm(step: Step, moves: Moves) -> torch.Tensor:
    """By x: the Jacobian is symmetric, so the backward kernel is the tangent. Affine in scale and shift."""
    x, weight, _, _, _, training, _, eps = step.args[:8]
    if not training:
        raise NoRule("batch norm with running statistics")
    a, scale, shift = moves[:3]
    _, mean, inv_std = step.outs[:3]
    parts: Moves = []
    if a is not None:
        statistics, mask = (None, None, mean, inv_std), [True, False, False]
        parts += aten.native_batch_norm_backward(a, x, weight, *statistics, True, eps, mask)[:1]
    if scale is not None or shift is not None:
        scale = torch.zeros_like(mean) if scale is None else scale
        variance = inv_std.pow(-2) - eps
        parts += aten.native_batch_norm(x, scale, shift, mean, variance, False, 0.0, eps)[:1]
    return _sum(parts)


def _relu(step: Step, moves: Moves) -> torch.Tensor:
    moved: torch.Tensor = aten.threshold_backward(moves[0], step.outs[0], 0)
    return moved


def _max_pool(step: Step, moves: Moves) -> torch.Tensor:
    move, indices = moves[0], step.outs[1]
    assert move is not None
    return move.flatten(2).gather(2, indices.flatten(2)).view(indices.shape)


def _pad(step: Step, moves: Moves) -> torch.Tensor:
    """What is padded with does not move."""
    assert moves[0] is not None
    padded: torch.Tensor = aten.constant_pad_nd(moves[0], step.args[1])
    return padded


_LINEAR = [
    aten.alias.default,
    aten.view.default,
    aten._unsafe_view.default,
    aten.t.default,
    aten.transpose.int,
    aten.permute.default,
    aten.slice.Tensor,
    aten.select.int,
    aten.expand.default,
    aten.squeeze.dim,
    aten.unsqueeze.default,
    aten.clone.default,
    aten._to_copy.default,
    aten.mean.dim,
    aten.sum.dim_IntList,
    aten.avg_pool2d.default,
    aten._adaptive_avg_pool2d.default,
]
RULES: dict[Any, Callable[[Step, Moves], torch.Tensor]] = {
    **dict.fromkeys(_LINEAR, _linear),
    aten.constant_pad_nd.default: _pad,
    aten.add.Tensor: _add,
    aten.add_.Tensor: _add,
    aten.mul.Tensor: _mul,
    aten.div.Tensor: _div,
    aten.gelu.default: _gelu,
    aten.addmm.default: _addmm,
    aten.convolution.default: _convolution,
    aten.native_batch_norm.default: _batch_norm,
    aten.cudnn_batch_norm.default: _batch_norm,
    aten.relu.default: _relu,
    aten.relu_.default: _relu,
    aten.max_pool2d_with_indices.default: _max_pool,
}
KEPT: dict[Any, tuple[int, ...]] = {
    aten.mul.Tensor: (0, 1),
    aten.div.Tensor: (1,),
    aten.gelu.default: (0,),
    aten.addmm.default: (1, 2),
    aten.convolution.default: (0, 1),
    aten.native_batch_norm.default: (0, 1, -2, -3),
    aten.cudnn_batch_norm.default: (0, 1, -2, -3),
    aten.relu.default: (-1,),
    aten.relu_.default: (-1,),
    aten.max_pool2d_with_indices.default: (-2,),
}
"""Whose values a rule needs: n for argument n, -1 - n for output n. Autograd keeps the same ones."""
