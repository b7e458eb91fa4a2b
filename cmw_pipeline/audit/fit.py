"""One training run on samples that are in memory, by a method of the registry."""

import contextlib
import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from cmw_pipeline.config.meta_names import parse_meta
from cmw_pipeline.config.methods import Method as Options
from cmw_pipeline.config.schema import Recipe
from cmw_pipeline.config.weightings import MetaLearned
from cmw_pipeline.data.loader import ImageStore, Store
from cmw_pipeline.data.scale import Scale
from cmw_pipeline.data.vectors import VectorStore
from cmw_pipeline.methods.base import Problem
from cmw_pipeline.runtime.signals import StopRequest
from cmw_pipeline.training.assemble import new_model, new_state
from cmw_pipeline.training.batches import Meta, Task
from cmw_pipeline.training.evaluate import predict
from cmw_pipeline.training.loop import train
from cmw_pipeline.training.outcome import losses_and_weights
from cmw_pipeline.training.state import Observer, TrainState
from cmw_pipeline.types import Floats

Rows = npt.NDArray[np.int64]
"""Places among the samples."""


@dataclass(frozen=True)
class Samples:
    """What is trained on and predicted: pictures or vectors, in memory."""

    values: npt.NDArray[np.uint8] | npt.NDArray[np.float32]
    """(N, H, W, C) uint8, or (N, D) float32."""
    mean: tuple[float, ...] = ()
    """Mean of each channel of pictures, in units of pixel/255; empty for vectors."""
    std: tuple[float, ...] = ()
    scale: Scale | None = None
    """How vectors are standardised; None for pictures."""

    @property
    def channels(self) -> int:
        """C of pictures, D of vectors."""
        return int(self.values.shape[-1])

    def store(self, rows: Rows, recipe: Recipe, device: torch.device) -> Store:
        """These samples, in this order, on a device."""
        chosen = self.values[rows]
        if self.scale is not None:
            return VectorStore.put(chosen.astype(np.float32), self.scale, device)
        return ImageStore.put(chosen.astype(np.uint8), self.mean, self.std, recipe.augment, device)


@dataclass(frozen=True)
class Way:
    """How every fit of an audit is made."""

    options: Options
    recipe: Recipe
    num_classes: int
    seed: int
    device: torch.device


@dataclass(frozen=True)
class Part:
    """What a fit is about: its name, the rows it trains on with their labels, and the trusted ones."""

    name: str
    rows: Rows
    labels: Rows
    """(N,) of all samples."""
    trusted: Rows
    """Rows of the meta-set; where there are none, the method picks its own from the rows."""
    test: Rows
    """Rows whose accuracy is recorded after each epoch."""


@dataclass(frozen=True)
class Fit:
    """A finished fit."""

    task: Task
    state: TrainState

    @property
    def network(self) -> nn.Module:
        """What predicts: the averaged network where there is one."""
        return self.state.teacher.module if self.state.teacher is not None else self.state.model

    def losses_and_weights(self) -> tuple[Floats, Floats]:
        """(n,) loss of each training row with its given label, and what the method weighs it with."""
        losses, weights = losses_and_weights(self.task, self.state)
        return losses.double().cpu().numpy(), weights.double().cpu().numpy()


def fit(
    samples: Samples,
    part: Part,
    way: Way,
    stop: StopRequest,
    side: Path,
    observer: Observer | None = None,
    checkpoint_seconds: float = 60.0,
) -> Fit:
    """Train on a part of the samples, from the newest checkpoint in ``side`` if there is one.

    Raises:
        Preempted, NumericsError, IntegrityError: see :func:`cmw_pipeline.training.loop.train`.
    """
    task = _task(samples, part, way)
    model = new_model(way.options, task, samples.channels, way.device)
    state = new_state(way.options, task, model, way.device, observer)
    train(task, state, stop, side, checkpoint_seconds)
    state.method.begin_epoch(task.recipe.epochs - 1)  # a finished run that was resumed has begun no epoch
    return Fit(task, state)


def _task(samples: Samples, part: Part, way: Way) -> Task:
    def put(values: Rows) -> torch.Tensor:
        return torch.from_numpy(part.labels[values]).to(way.device)

    recipe = way.recipe
    if len(part.rows) < recipe.batch_size:
        recipe = recipe.model_copy(update={"batch_size": len(part.rows)})
    labels = put(np.concatenate([part.rows, part.trusted]))
    problem = Problem(way.num_classes, labels[: len(part.rows)])
    return Task(
        recipe=recipe,
        seed=way.seed,
        problem=problem,
        store=samples.store(np.concatenate([part.rows, part.trusted]), recipe, way.device),
        labels=labels,
        test_store=samples.store(part.test, recipe, way.device),
        test_labels=put(part.test),
        meta=_meta(way.options, problem, len(part.trusted)),
    )


def _meta(options: Options, problem: Problem, trusted: int) -> Meta | None:
    """The trusted rows; without them, of each class as many of the lowest losses as the smallest one has."""
    weighting = options.weighting
    if not isinstance(weighting, MetaLearned):
        return None
    counts = problem.class_counts
    rule = parse_meta(weighting.meta_set)
    least = int(counts[counts > 0].min())
    if trusted:
        rule = dataclasses.replace(rule, kind="clean")
    return Meta(rule, min(rule.per_class or least, least), weighting.meta_batch, weighting.meta_every)


def probabilities(
    network: nn.Module, samples: Samples, rows: Rows, recipe: Recipe, device: torch.device
) -> Floats:
    """(n, K) what a network says of these rows."""
    if not len(rows):
        return np.empty((0, 0))
    logits = predict(network, samples.store(rows, recipe, device), len(rows), recipe)
    found: Floats = logits.double().softmax(dim=1).cpu().numpy()
    return found


@contextlib.contextmanager
def num_threads(count: int) -> Iterator[None]:
    """Each layer is computed by so many threads inside the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
