"""A forward pass that can say how its logits move when the weights move: ż = (∂z/∂w) · direction.

The pass is recorded below autograd, as (operation, inputs, outputs): tensors that autograd keeps anyway. A
tangent is then carried along the record with one linear rule an operation, without computing the network
again. Where an operation has no rule, or a recorded value was overwritten, the tangent comes from PyTorch's
forward mode instead, which repeats the pass with the same random draws; a rule is never guessed.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn
from torch.func import functional_call, jvp
from torch.utils._python_dispatch import TorchDispatchMode

from cmw_pipeline.runtime.rng import RngState

aten = torch.ops.aten


class NoRule(Exception):
    """The record cannot be replayed exactly."""


class Forward:
    """One forward pass of a model in its current mode; ``logits`` (B, K) carry their graph."""

    def __init__(self, model: nn.Module, images: torch.Tensor) -> None:
        self.model = model
        self.images = images
        self._draws = RngState.capture(images.device)
        self._record = _Record()
        with self._record:
            self.logits: torch.Tensor = model(images)

    def tangent(self, direction: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """(B, K): how the logits move when each named parameter moves along its direction."""
        try:
            return self.replayed(direction)
        except NoRule:
            return self.repeated(direction)

    def replayed(self, direction: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """The tangent along the record.

        Raises:
            NoRule: an operation has no rule, or a value it needs was overwritten.
        """
        parameters = dict(self.model.named_parameters())
        tangents = _Tangents()
        for name, move in direction.items():
            tangents[parameters[name]] = move
        with torch.no_grad():
            for step in self._record.steps:
                _replay(step, tangents)
        moved = tangents[self.logits]
        return torch.zeros_like(self.logits) if moved is None else moved

    def repeated(self, direction: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """The tangent by forward-mode differentiation of a second pass."""

        def network(weights: dict[str, torch.Tensor]) -> torch.Tensor:
            state = (weights, copied_buffers(self.model))
            logits: torch.Tensor = functional_call(self.model, state, (self.images,))
            return logits

        plain = {name: p.detach() for name, p in self.model.named_parameters() if name in direction}
        with self._draws.replayed(self.images.device):
            tangent: torch.Tensor = jvp(network, (plain,), (dict(direction),))[1]
        return tangent


def copied_buffers(model: nn.Module) -> dict[str, torch.Tensor]:
    """Copies for a pass that must not move the model's batch-norm statistics."""
    return {name: buffer.clone() for name, buffer in model.named_buffers()}


class _Record(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Every operation between entering and leaving."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.steps: list[_Step] = []

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Do not load the compiler just to keep it away from this class: that takes seconds."""
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        differentiable = [isinstance(t, torch.Tensor) and t.requires_grad for t in args]
        out = func(*args, **(kwargs or {}))
        self.steps.append(_Step(func, args, kwargs or {}, out, differentiable))
        return out


class _Tangents:
    """Tangents by the identity of their values; absent means zero."""

    def __init__(self) -> None:
        self._moves: dict[tuple[Any, ...], torch.Tensor] = {}

    def __getitem__(self, tensor: torch.Tensor) -> torch.Tensor | None:
        return self._moves.get(self._key(tensor))

    def __setitem__(self, tensor: torch.Tensor, move: torch.Tensor) -> None:
        self._moves[self._key(tensor)] = move

    @staticmethod
    def _key(tensor: torch.Tensor) -> tuple[Any, ...]:
        """Autograd wraps views anew: the same values may come as another object."""
        return tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype


class _Step:
    """One recorded operation and, during a replay, the tangents of its arguments."""

    def __init__(
        self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any, differentiable: list[bool]
    ) -> None:
        self.func, self.args, self.kwargs = func, args, kwargs
        self.out: torch.Tensor = out[0] if isinstance(out, tuple) else out
        self.more = out[1:] if isinstance(out, tuple) else ()
        self._differentiable = differentiable
        tensors = [t for t in (*args, self.out, *self.more) if isinstance(t, torch.Tensor)]
        self._versions = {id(t): t._version for t in tensors}
        if func._schema.is_mutable and self.out is args[0]:
            self._versions[id(self.out)] += 1  # autograd counts the write after this returns

    def moves(self, tangents: _Tangents) -> list[torch.Tensor | None]:
        """The tangent of each argument; none where autograd would not pass a gradient (detached, no-grad)."""
        return [
            tangents[value] if differentiable else None
            for value, differentiable in zip(self.args, self._differentiable, strict=True)
        ]

    def value(self, tensor: torch.Tensor) -> torch.Tensor:
        """A recorded tensor whose values a rule needs.

        Raises:
            NoRule: it was written to after this operation.
        """
        if tensor._version != self._versions[id(tensor)]:
            raise NoRule(f"a value of {self.func} was overwritten")
        return tensor


def _replay(step: _Step, tangents: _Tangents) -> None:
    moves = step.moves(tangents)
    if all(move is None for move in moves) or not step.out.requires_grad:
        return
    rule = _RULES.get(step.func)
    if rule is None:
        raise NoRule(f"no rule for {step.func}")
    tangents[step.out] = rule(step, moves)


# --- one rule an operation: the tangent of its (first) output from the tangents of its arguments

Moves = list[torch.Tensor | None]


def _linear(step: _Step, moves: Moves) -> torch.Tensor:
    """Linear in the first argument, and nothing else moves."""
    moved: torch.Tensor = step.func(moves[0], *step.args[1:], **step.kwargs)
    return moved


def _sum(parts: Moves) -> torch.Tensor:
    first, *rest = [part for part in parts if part is not None]
    for part in rest:
        first = first + part
    return first


def _add(step: _Step, moves: Moves) -> torch.Tensor:
    if step.kwargs:
        raise NoRule("scaled addition")
    return _sum(moves).expand(step.out.shape)


def _mul(step: _Step, moves: Moves) -> torch.Tensor:
    (x, y), (a, b) = step.args, moves
    parts = [None if a is None else a * _number_or_value(step, y)]
    parts += [None if b is None else step.value(x) * b]
    return _sum(parts)


def _number_or_value(step: _Step, factor: Any) -> Any:
    return step.value(factor) if isinstance(factor, torch.Tensor) else factor


def _addmm(step: _Step, moves: Moves) -> torch.Tensor:
    if step.kwargs:
        raise NoRule("scaled product")
    (_, x, w), (bias, a, b) = step.args, moves
    parts = [None if a is None else a @ step.value(w), None if b is None else step.value(x) @ b]
    return _sum([*parts, None if bias is None else bias.expand(step.out.shape)])


def _convolution(step: _Step, moves: Moves) -> torch.Tensor:
    x, w, _, *geometry = step.args
    a, b, bias = moves[:3]
    parts = [
        None if a is None else aten.convolution(a, step.value(w), None, *geometry),
        None if b is None else aten.convolution(step.value(x), b, None, *geometry),
        None if bias is None else bias.view(-1, *[1] * (x.dim() - 2)).expand(step.out.shape),
    ]
    return _sum(parts)


def _batch_norm(step: _Step, moves: Moves) -> torch.Tensor:
    """By x: the Jacobian is symmetric, so the backward kernel is the tangent. Affine in scale and shift."""
    x, weight, _, running_mean, running_var, training, _, eps = step.args
    if not training:
        raise NoRule("batch norm with running statistics")
    a, scale, shift = moves[:3]
    mean, inv_std = (step.value(t) for t in step.more)
    parts: Moves = []
    if a is not None:
        statistics = (running_mean, running_var, mean, inv_std)
        mask = [True, False, False]
        parts += aten.native_batch_norm_backward(a, step.value(x), weight, *statistics, True, eps, mask)[:1]
    if scale is not None or shift is not None:
        scale = torch.zeros_like(mean) if scale is None else scale
        variance = inv_std.pow(-2) - eps
        parts += aten.native_batch_norm(step.value(x), scale, shift, mean, variance, False, 0.0, eps)[:1]
    return _sum(parts)


def _relu(step: _Step, moves: Moves) -> torch.Tensor:
    moved: torch.Tensor = aten.threshold_backward(moves[0], step.value(step.out), 0)
    return moved


def _max_pool(step: _Step, moves: Moves) -> torch.Tensor:
    move, indices = moves[0], step.more[0]
    assert move is not None
    return move.flatten(2).gather(2, indices.flatten(2)).view(indices.shape)


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
    aten.constant_pad_nd.default,
    aten.mean.dim,
    aten.sum.dim_IntList,
    aten.avg_pool2d.default,
    aten._adaptive_avg_pool2d.default,
]
_RULES: dict[Any, Callable[[_Step, Moves], torch.Tensor]] = {
    **dict.fromkeys(_LINEAR, _linear),
    aten.add.Tensor: _add,
    aten.add_.Tensor: _add,
    aten.mul.Tensor: _mul,
    aten.addmm.default: _addmm,
    aten.convolution.default: _convolution,
    aten.native_batch_norm.default: _batch_norm,
    aten.relu.default: _relu,
    aten.relu_.default: _relu,
    aten.max_pool2d_with_indices.default: _max_pool,
}
