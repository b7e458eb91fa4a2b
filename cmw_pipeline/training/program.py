"""A training iteration as a program: run as it is written, compiled, or captured in a CUDA graph.

The iteration is everything after the batch is there: ``prepare``, the virtual, meta and real step, the
teacher. Written out it is the oracle; compiled or captured it is the same operations on the same tensors,
without Python between them. What the host decides (the epoch's phase, the teacher's decay) is part of a
program's key: when it changes, another program is made. The learning rate is a tensor and changes freely.
"""

import dataclasses
from collections.abc import Callable, Hashable, Iterator

import torch
from torch import nn

from cmw_pipeline.config.schema import Recipe
from cmw_pipeline.methods.base import Batch, Networks
from cmw_pipeline.runtime.rng import RngState
from cmw_pipeline.training.precision import forward_precision
from cmw_pipeline.training.state import TrainState
from cmw_pipeline.training.step import training_step

Program = Callable[[list[torch.Tensor]], None]
"""Takes the tensors of a batch and its meta batch, changes the state."""
_WARM_UP = 3
"""Iterations before a capture, for libraries that allocate at their first calls."""


class Iterations:
    """Runs iterations of a run, by the way that its recipe and its device ask for."""

    def __init__(self, state: TrainState, recipe: Recipe) -> None:
        self.state, self.recipe = state, recipe
        self.captures = recipe.capture and state.device.type == "cuda"
        self._programs: dict[Hashable, Program] = {}
        self._eager_runs: dict[Hashable, int] = {}

    def begin_epoch(self) -> None:
        """Drop programs that the epoch may have made stale: buffers and host values of methods change."""
        if not self.state.method.facts.steady:
            self._programs.clear()
            self._eager_runs.clear()

    def run(self, batch: Batch, meta_batch: Batch | None) -> None:
        """Train on a batch and, with a meta batch, improve the weighting first."""
        decay = self._decay()
        if not (self.captures or self.recipe.compile):
            iterate(self.state, self.recipe, batch, meta_batch, decay)
            return
        tensors = _tensors(batch) + (_tensors(meta_batch) if meta_batch else [])
        method = self.state.method
        key = (method.active, method.weighs, batch.turn, decay, tuple(tuple(t.shape) for t in tensors))
        if key not in self._programs:
            if self.captures and self._eager_runs.setdefault(key, 0) < _WARM_UP:
                self._eager_runs[key] += 1
                iterate(self.state, self.recipe, batch, meta_batch, decay)
                return
            self._programs[key] = self._make(batch, meta_batch, decay)
        self._programs[key](tensors)

    def _decay(self) -> float:
        if self.state.teacher is None or self.recipe.ema is None:
            return 1.0
        return self.state.method.teacher_decay(self.recipe.ema, self.state.iteration)

    def _make(self, batch: Batch, meta_batch: Batch | None, decay: float) -> Program:
        def written_out(tensors: list[torch.Tensor]) -> None:
            rest = iter(tensors)
            again = _refill(batch, rest)
            meta = _refill(meta_batch, rest) if meta_batch else None
            iterate(self.state, self.recipe, again, meta, decay, check_finite=False)

        tensors = _tensors(batch) + (_tensors(meta_batch) if meta_batch else [])
        program: Program = written_out
        if self.recipe.compile:
            program = _compiled(written_out, tensors, self.state)
        return _captured(program, tensors) if self.captures else program


def iterate(
    state: TrainState,
    recipe: Recipe,
    batch: Batch,
    meta_batch: Batch | None,
    decay: float,
    check_finite: bool = True,
) -> None:
    """One iteration, written out. ``check_finite``: stop before the step if a number is not finite."""
    method = state.method
    with forward_precision(recipe.precision, state.device):
        with torch.no_grad():
            batch = method.prepare(batch, _networks(state))
        check_finite = check_finite and state.device.type == "cpu"
        low_memory = recipe.low_memory
        model = state.shared_model or state.model
        loss = training_step(model, method, state.optimizer, batch, meta_batch, low_memory, check_finite)
    state.loss_sum += loss
    if state.teacher is not None:
        state.teacher.update(state.model, decay, own_statistics=method.facts.needs_teacher and method.active)


def _compiled(program: Program, tensors: list[torch.Tensor], state: TrainState) -> Program:
    """The program traced to a graph of tensor operations, and that compiled; the state is left as it was."""
    from torch.fx.experimental.proxy_tensor import make_fx  # seconds, and few need it

    kept = [tensor.clone() for tensor in state.tensors()]
    with RngState.capture(state.device).replayed(state.device):
        graph = make_fx(program)(tensors)
    with torch.no_grad():
        torch._foreach_copy_(state.tensors(), kept)
    compiled = torch.compile(graph, options={"fallback_random": True})

    def run(tensors: list[torch.Tensor]) -> None:
        with torch.no_grad():
            compiled(tensors)

    return run


def _captured(program: Program, tensors: list[torch.Tensor]) -> Program:
    """The program as one CUDA graph on tensors of its own, into which each batch is copied."""
    own = [tensor.clone() for tensor in tensors]
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        program(own)

    def run(tensors: list[torch.Tensor]) -> None:
        torch._foreach_copy_(own, tensors)
        graph.replay()

    return run


def _tensors(batch: Batch) -> list[torch.Tensor]:
    """The tensors of a batch, in a fixed order."""
    parts = [batch.images, batch.labels, batch.rows, *batch.views]
    return parts + [tensor for other in batch.others for tensor in _tensors(other)]


def _refill(batch: Batch, tensors: Iterator[torch.Tensor]) -> Batch:
    """A batch of the same form with these tensors; the inverse of :func:`_tensors`."""
    images, labels, rows = next(tensors), next(tensors), next(tensors)
    views = tuple(next(tensors) for _ in batch.views)
    others = tuple(_refill(other, tensors) for other in batch.others)
    return dataclasses.replace(batch, images=images, labels=labels, rows=rows, views=views, others=others)


def _networks(state: TrainState) -> Networks:
    if state.shared_model is None:
        return Networks(state.model, state.teacher, _no_scan)
    return Networks(state.model, state.shared_teacher, _no_scan, state.shared_model.mix)


def _no_scan(network: nn.Module) -> torch.Tensor:
    raise AssertionError("a scan of the training set belongs between epochs")
