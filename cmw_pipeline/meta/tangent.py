"""A forward pass that can say how its logits move when the weights move: ż = (∂z/∂w) · direction.

The pass is recorded below autograd, as (operation, inputs, outputs): tensors that autograd keeps anyway. A
tangent is then carried along the record with one linear rule an operation, without computing the network
again. Where an operation has no rule, or a recorded value was overwritten, the tangent comes from PyTorch's
forward mode instead, which repeats the pass with the same random draws; a rule is never guessed.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
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
        tangents = {_Slot.of(parameters[name]): move for name, move in direction.items()}
        with torch.no_grad():
            _replay(self._record.steps, tangents)
        moved = tangents.get(_Slot.of(self.logits))
        if moved is _UNKNOWN:
            raise NoRule("the logits come from an operation without a rule")
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


@dataclass(frozen=True)
class _Slot:
    """Where values lie, and as of which write to that memory: autograd wraps views in new objects."""

    address: int
    shape: torch.Size
    stride: tuple[int, ...]
    dtype: torch.dtype
    version: int

    @classmethod
    def of(cls, tensor: torch.Tensor, version: int | None = None) -> "_Slot":
        version = tensor._version if version is None else version
        return cls(tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype, version)


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
        reads = [_Slot.of(t) if _moves(t) else None for t in args]
        in_lists = [_Slot.of(t) for value in args if isinstance(value, list) for t in value if _moves(t)]
        out = func(*args, **(kwargs or {}))
        if func is aten.detach.default:  # the same memory by another name, which nothing reads as moving
            return out
        outs = out if isinstance(out, tuple) else (out,)
        self.steps.append(_Step(func, args, kwargs or {}, outs, reads, in_lists))
        return out


def _moves(value: Any) -> bool:
    """Whether autograd would pass a gradient to this argument: not where it was detached."""
    return isinstance(value, torch.Tensor) and value.requires_grad


class _Step:
    """One recorded operation; of its tensors only those whose values its rule needs are kept."""

    def __init__(
        self,
        func: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        outs: tuple[Any, ...],
        reads: list[_Slot | None],
        in_lists: list[_Slot],
    ) -> None:
        self.func, self.kwargs, self.reads, self.in_lists = func, kwargs, reads, in_lists
        version = _version_after(func, args, outs[0])
        self.writes = [_Slot.of(t, version) for t in outs if isinstance(t, torch.Tensor)]
        wanted = _KEPT.get(func, ())
        values = [value if _is_plain(value) or n in wanted else None for n, value in enumerate(args)]
        self.args: list[Any] = values
        self.outs: list[Any] = [value if -1 - n in wanted else None for n, value in enumerate(outs)]
        tensors = [t for t in (*self.args, *self.outs) if isinstance(t, torch.Tensor)]
        self._versions = [(t, version if t is outs[0] else t._version) for t in tensors]

    def check(self) -> None:
        """Refuse where a value that was kept has been written to since."""
        if any(tensor._version != version for tensor, version in self._versions):
            raise NoRule(f"a value of {self.func} was overwritten")


def _version_after(func: Any, args: tuple[Any, ...], out: Any) -> int:
    """The version that autograd gives the first output once the operation has returned to it.

    It counts a write in place only then, and lets a view share the count of what it is a view of.
    """
    if not isinstance(out, torch.Tensor):
        return 0
    if func.is_view:
        return int(args[0]._version)
    return out._version + int(func._schema.is_mutable and out is args[0])


def _is_plain(value: Any) -> bool:
    return not isinstance(value, torch.Tensor) and not (
        isinstance(value, list) and any(isinstance(t, torch.Tensor) for t in value)
    )


def _replay(steps: list[_Step], tangents: dict[_Slot, Any]) -> None:
    """Carry the tangents through all steps in order; each is dropped after its last use.

    A slot names memory, and memory is used again: every operation says anew what its outputs do.
    """
    for step, done in zip(steps, _last_reads(steps), strict=True):
        moves = [None if slot is None else tangents.get(slot) for slot in step.reads]
        listed = [tangents[slot] for slot in step.in_lists if slot in tangents]
        if any(move is _UNKNOWN for move in (*moves, *listed)):
            raise NoRule(f"an input of {step.func} comes from an operation without a rule")
        for slot in done:
            tangents.pop(slot, None)
        for slot in step.writes:
            tangents.pop(slot, None)
        if listed or any(move is not None for move in moves):
            tangents[step.writes[0]] = _tangent(step, moves)


def _tangent(step: _Step, moves: "Moves") -> Any:
    rule = _RULES.get(step.func)
    if rule is None:
        return _UNKNOWN
    step.check()
    return rule(step, moves)


def _last_reads(steps: list[_Step]) -> list[list[_Slot]]:
    """For each step the slots that are read there for the last time before they are written again."""
    awaited: set[_Slot] = set()
    last: list[list[_Slot]] = []
    for step in reversed(steps):
        awaited.difference_update(step.writes)
        read = {slot for slot in (*step.reads, *step.in_lists) if slot is not None}
        last.append([slot for slot in read if slot not in awaited])
        awaited |= read
    return last[::-1]


# --- one rule an operation: the tangent of its (first) output from the tangents of its arguments

Moves = list[torch.Tensor | None]
_UNKNOWN = object()
"""In place of a tangent: it moves, and nobody knows how. An error only if it is read."""


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
    return _sum(moves).expand(step.writes[0].shape)


def _mul(step: _Step, moves: Moves) -> torch.Tensor:
    (x, y), (a, b) = step.args, moves
    return _sum([None if a is None else a * y, None if b is None else x * b])


def _addmm(step: _Step, moves: Moves) -> torch.Tensor:
    if step.kwargs:
        raise NoRule("scaled product")
    (_, x, w), (bias, a, b) = step.args, moves
    parts = [None if a is None else a @ w, None if b is None else x @ b]
    return _sum([*parts, None if bias is None else bias.expand(step.writes[0].shape)])


def _convolution(step: _Step, moves: Moves) -> torch.Tensor:
    x, w, _, *geometry = step.args
    a, b, bias = moves[:3]
    parts = [
        None if a is None else aten.convolution(a, w, None, *geometry),
        None if b is None else aten.convolution(x, b, None, *geometry),
        None if bias is None else bias.view(-1, *[1] * (w.dim() - 2)).expand(step.writes[0].shape),
    ]
    return _sum(parts)


def _batch_norm(step: _Step, moves: Moves) -> torch.Tensor:
    """By x: the Jacobian is symmetric, so the backward kernel is the tangent. Affine in scale and shift."""
    x, weight, _, _, _, training, _, eps = step.args
    if not training:
        raise NoRule("batch norm with running statistics")
    a, scale, shift = moves[:3]
    _, mean, inv_std = step.outs
    parts: Moves = []
    if a is not None:
        statistics, mask = (None, None, mean, inv_std), [True, False, False]
        parts += aten.native_batch_norm_backward(a, x, weight, *statistics, True, eps, mask)[:1]
    if scale is not None or shift is not None:
        scale = torch.zeros_like(mean) if scale is None else scale
        variance = inv_std.pow(-2) - eps
        parts += aten.native_batch_norm(x, scale, shift, mean, variance, False, 0.0, eps)[:1]
    return _sum(parts)


def _relu(step: _Step, moves: Moves) -> torch.Tensor:
    moved: torch.Tensor = aten.threshold_backward(moves[0], step.outs[0], 0)
    return moved


def _max_pool(step: _Step, moves: Moves) -> torch.Tensor:
    move, indices = moves[0], step.outs[1]
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
_KEPT: dict[Any, tuple[int, ...]] = {
    aten.mul.Tensor: (0, 1),
    aten.addmm.default: (1, 2),
    aten.convolution.default: (0, 1),
    aten.native_batch_norm.default: (0, 1, -2, -3),
    aten.relu.default: (-1,),
    aten.relu_.default: (-1,),
    aten.max_pool2d_with_indices.default: (-2,),
}
"""Whose values a rule needs: n for argument n, -1 - n for output n. Autograd keeps the same ones."""
