"""A forward pass that can say how its logits move when the weights move: ż = (∂z/∂w) · direction.

The pass is recorded below autograd, as (operation, inputs, outputs): tensors that autograd keeps anyway. A
tangent is then carried along the record with one linear rule an operation, without computing the network
again. Where an operation has no rule, or a recorded value was overwritten, the tangent is the derivative of
the backward pass, which is linear in what it starts from. Where an operation has no second derivative,
either, it comes from PyTorch's forward mode, which repeats the pass with the same random draws; a rule is
never guessed, and a second pass that is not the first is refused.
"""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import nn
from torch.func import functional_call, jvp
from torch.nn.attention import SDPBackend, sdpa_kernel

from cmw_pipeline.errors import ConfigError
from cmw_pipeline.meta.record import NoRule, Record, Slot, Step, last_reads
from cmw_pipeline.meta.tangent_rules import KEPT, RULES, Moves
from cmw_pipeline.runtime.rng import RngState

_UNKNOWN = object()
"""In place of a tangent: it moves, and nobody knows how. An error only if it is read."""


class Forward:
    """One forward pass of a model in its current mode; ``logits`` (B, K) carry their graph."""

    keeps_graph = True
    """Whether the graph is used again after :meth:`tangent`."""

    def __init__(self, model: nn.Module, images: Any) -> None:
        self.model = model
        self.images = images
        self._device = next(model.parameters()).device
        self._draws = None if _capturing() else RngState.capture(self._device)
        self._record = Record(self._kept)
        with self._record:
            self.logits: torch.Tensor = model(images)

    @property
    def _kept(self) -> dict[Any, tuple[int, ...]]:
        return KEPT

    def tangent(self, direction: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """(B, K): how the logits move when each named parameter moves along its direction."""
        try:
            return self.replayed(direction)
        except NoRule:
            if not getattr(self.model, "second_derivatives", True):
                return self.repeated(direction)
        try:
            return self.turned(direction)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError:  # an operation, or its backward pass, that autograd cannot differentiate again
            return self.repeated(direction)

    def turned(self, direction: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """The tangent by two reverse passes: v = Jᵀu is linear in u, and ∂(v · direction)/∂u = J direction.

        Raises:
            RuntimeError: an operation has no second derivative.
        """
        parameters = {name: p for name, p in self.model.named_parameters() if name in direction}
        start = torch.zeros_like(self.logits, requires_grad=True)
        ends = torch.autograd.grad(
            self.logits, list(parameters.values()), start, create_graph=True, allow_unused=True
        )
        pairs = [(v, direction[name]) for v, name in zip(ends, parameters, strict=True) if v is not None]
        moving = [(v, move) for v, move in pairs if v.requires_grad]
        if not moving:
            return torch.zeros_like(self.logits)
        values, moves = zip(*moving, strict=True)
        return torch.autograd.grad(values, start, moves, retain_graph=True)[0]

    def replayed(self, direction: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """The tangent along the record.

        Raises:
            NoRule: an operation has no rule, or a value it needs was overwritten.
        """
        tangents = self._starts(direction)
        with torch.no_grad():
            for step, done in zip(self._record.steps, last_reads(self._record.steps), strict=True):
                _carry(step, done, tangents)
        return _moved(self.logits, tangents)

    def repeated(self, direction: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """The tangent by forward-mode differentiation of a second pass, in float32.

        Under autocast forward mode fails in a convolution behind a batch norm (torch 2.15).

        Raises:
            ConfigError: the second pass is not the first, or cannot be made.
        """

        def network(weights: dict[str, torch.Tensor]) -> torch.Tensor:
            state = (weights, copied_buffers(self.model))
            logits: torch.Tensor = functional_call(self.model, state, (self.images,))
            return logits

        plain = {name: p.detach() for name, p in self.model.named_parameters() if name in direction}
        exact = torch.autocast(self._device.type, enabled=False)
        with self._same_draws(), exact, sdpa_kernel(SDPBackend.MATH):  # the other ways have no forward mode
            logits, tangent = jvp(network, (plain,), (dict(direction),))[:2]
        if not _tracing() and not self._is(logits):
            raise ConfigError(
                "a second pass of this network gives other logits: what it draws cannot be drawn again",
                "draw from PyTorch's generators alone, or set dropout to 0",
            )
        moved: torch.Tensor = tangent
        return moved

    def _is(self, logits: torch.Tensor) -> bool:
        """Whether these are the logits of the first pass, but for the rounding of autocast."""
        first = self.logits.detach()
        allowed = 0.05 if torch.is_autocast_enabled(self._device.type) else 1e-3
        return bool((logits - first).norm() <= allowed * first.norm())

    def _same_draws(self) -> AbstractContextManager[None]:
        if self._draws is None or (_tracing() and self._drew):
            raise ConfigError(
                "a second pass of this network cannot be part of a captured or compiled step",
                "set the recipe's capture, compile or low_memory to false",
            )
        if any(map(_drops_inside, self._record.steps)):
            raise ConfigError(
                "the dropout inside a fused attention cannot be drawn a second time",
                "set the attention's dropout to 0, or train within torch.nn.attention.sdpa_kernel(MATH)",
            )
        return self._draws.replayed(self._device)

    @property
    def _drew(self) -> bool:
        return any(torch.Tag.nondeterministic_seeded in step.func.tags for step in self._record.steps)

    def _starts(self, direction: Mapping[str, torch.Tensor]) -> dict[Slot, Any]:
        parameters = dict(self.model.named_parameters())
        tangents: dict[Slot, Any] = {Slot.of(parameter): None for parameter in parameters.values()}
        return tangents | {Slot.of(parameters[name]): move for name, move in direction.items()}


class LowMemoryForward(Forward):
    """A forward pass with one set of activations alive at a time, for a second pass of the network.

    The graph of the first pass may be freed; :meth:`tangent` passes the images again, carries the tangent
    along as it goes, and leaves the new pass's graph in ``logits``.
    """

    keeps_graph = False

    @property
    def _kept(self) -> dict[Any, tuple[int, ...]]:
        return {}

    def replayed(self, direction: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """The tangent, carried along a second pass.

        Raises:
            NoRule: an operation has no rule; ``logits`` are those of the second pass all the same.
        """
        carried = _Carried(self._record, self._starts(direction))
        buffers = copied_buffers(self.model)
        with self._same_draws(), carried:
            self.logits = functional_call(self.model, buffers, (self.images,))
        if carried.failure is not None:
            raise carried.failure
        return _moved(self.logits, carried.tangents)


class _Carried(Record):  # type: ignore[no-untyped-call]
    """Carries tangents along while the operations happen; which of them die where, an earlier record says."""

    def __init__(self, earlier: Record, tangents: dict[Slot, Any]) -> None:
        super().__init__(KEPT)
        self.tangents = tangents
        self.failure: NoRule | None = None
        self._expected = iter(zip(earlier.steps, last_reads(earlier.steps), strict=True))

    def take(self, step: Step) -> None:
        if self.failure is not None:
            return
        try:
            earlier, done = next(self._expected, (None, []))
            if earlier is None or earlier.func is not step.func or len(earlier.moving) != len(step.moving):
                raise NoRule(f"the second pass differs from the first at {step.func}")
            with torch.no_grad():
                _carry(step, done, self.tangents)
        except NoRule as failure:
            self.failure = failure
            self.tangents.clear()


def _moved(logits: torch.Tensor, tangents: dict[Slot, Any]) -> torch.Tensor:
    moved = tangents.get(Slot.of(logits), _UNKNOWN)
    if moved is _UNKNOWN:
        raise NoRule("the logits come from an operation without a rule")
    return torch.zeros_like(logits) if moved is None else moved


def _capturing() -> bool:
    """Inside the capture of a CUDA graph the generators' states cannot be asked for."""
    return torch.cuda.is_available() and torch.cuda.is_current_stream_capturing()


def _tracing() -> bool:
    """While a step is traced to a graph, putting a generator back leaves no mark in it."""
    return torch._C._get_dispatch_mode(torch._C._TorchDispatchModeKey.PROXY) is not None


def _drops_inside(step: Step) -> bool:
    """Whether an operation is a fused attention that drops some of its weights."""
    names = [argument.name for argument in step.func._schema.arguments]
    if "scaled_dot_product" not in step.func.name() or "dropout_p" not in names:
        return False
    place = names.index("dropout_p")
    return bool(step.args[place] if place < len(step.args) else step.kwargs.get("dropout_p", 0.0))


def copied_buffers(model: nn.Module) -> dict[str, torch.Tensor]:
    """Copies for a pass that must not move the model's batch-norm statistics."""
    buffers = dict(model.named_buffers())
    copies = [torch.empty_like(buffer) for buffer in buffers.values()]
    if copies:
        torch._foreach_copy_(copies, list(buffers.values()))
    return dict(zip(buffers, copies, strict=True))


def _carry(step: Step, done: list[int], tangents: dict[Slot, Any]) -> None:
    """Carry the tangents through one step; those of the inputs numbered in ``done`` are needed no more.

    A slot names memory, and memory is used again: every operation says anew what its outputs do. A value
    that autograd differentiates but that no recorded operation made out of another such value (the result
    of a custom autograd function, say) is not in ``tangents``, and what reads it has no rule.
    """
    moves = [None if slot is None else tangents.get(slot, _UNKNOWN) for slot in step.reads]
    listed = [tangents.get(slot, _UNKNOWN) for slot in step.in_lists]
    if any(move is _UNKNOWN for move in (*moves, *listed)):
        raise NoRule(f"an input of {step.func} comes from an operation without a rule")
    moving = step.moving
    if moving and not step.writes:
        raise NoRule(f"{step.func} gives a list of tensors, or none")
    for slot in (*(moving[n] for n in done), *step.writes):
        tangents.pop(slot, None)
    if any(move is not None for move in (*moves, *listed)):
        tangents[step.writes[0]] = _tangent(step, moves)
    elif moving:
        tangents[step.writes[0]] = None


def _tangent(step: Step, moves: Moves) -> Any:
    rule = RULES.get(step.func)
    if rule is None:
        return _UNKNOWN
    step.check()
    return rule(step, moves)
