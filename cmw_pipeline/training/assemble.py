"""A run put together: what it trains on, the state that it starts from, its share on a team of processes."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file
from torch import nn

from cmw_pipeline.config.contracts import Biased, MetaSet, Pretrained, TrainRequest
from cmw_pipeline.config.meta_names import parse_meta
from cmw_pipeline.config.methods import Method as Options
from cmw_pipeline.config.weightings import MetaLearned
from cmw_pipeline.data.loader import Store
from cmw_pipeline.data.opened import OpenImages
from cmw_pipeline.errors import ConfigError
from cmw_pipeline.io.manifests import Stored
from cmw_pipeline.io.tables import Columns, read_columns
from cmw_pipeline.meta.weighting import load_weighting
from cmw_pipeline.methods import registry as methods
from cmw_pipeline.methods.base import Problem
from cmw_pipeline.metrics.accuracy import shot_groups
from cmw_pipeline.models import registry as models
from cmw_pipeline.models.trunk import freeze_trunk, load_trunk
from cmw_pipeline.runtime.seeds import stream_seed
from cmw_pipeline.runtime.team import Team
from cmw_pipeline.training.batches import Meta, Task
from cmw_pipeline.training.ema import Teacher
from cmw_pipeline.training.optim import optimizer
from cmw_pipeline.training.parallel import Shared, unshared_norms
from cmw_pipeline.training.precision import use_tf32
from cmw_pipeline.training.state import Observer, TrainState
from cmw_pipeline.training.stored import StoredRun
from cmw_pipeline.types import TEST, TRAIN

Inputs = Mapping[str, Stored]
"""The verified inputs of a run, by role."""


@dataclass(frozen=True)
class Split:
    """Positions in ``images.npy`` and their labels: the given ones, or the meta-set's."""

    index: npt.NDArray[np.int64]
    labels: npt.NDArray[np.int64]


@dataclass(frozen=True)
class Splits:
    """The parts of a dataset as a run uses them; held-out images are not trained on."""

    train: Split
    held_out: Split
    test: Split


def read_splits(inputs: Inputs) -> Splits:
    """The parts by the given labels: of the label table only index, label and split are loaded."""
    table = read_columns(inputs["biased"].path, Biased.LABELS, ["index", "label", "split"])
    held_out = Split(np.empty(0, np.int64), np.empty(0, np.int64))
    if "metaset" in inputs:
        held_out = _split(read_columns(inputs["metaset"].path, MetaSet.SAMPLES))
    is_train = (table["split"] == TRAIN) & ~np.isin(table["index"], held_out.index)
    return Splits(_split(table, is_train), held_out, _split(table, table["split"] == TEST))


def _split(table: Columns, rows: npt.NDArray[np.bool_] | slice = slice(None)) -> Split:
    return Split(table["index"][rows].astype(np.int64), table["label"][rows].astype(np.int64))


def task(request: TrainRequest, inputs: Inputs, splits: Splits, images: OpenImages) -> Task:
    """What the run trains on and is tested on."""
    device, train, held_out, test = images.device, splits.train, splits.held_out, splits.test
    store = images.store(np.concatenate([train.index, held_out.index]))
    problem = _problem(inputs, train, images, store)
    return Task(
        recipe=images.recipe,
        seed=request.seed,
        problem=problem,
        store=store,
        labels=torch.cat([problem.labels, torch.from_numpy(held_out.labels).to(device)]),
        test_store=images.store(test.index),
        test_labels=torch.from_numpy(test.labels).to(device),
        meta=_meta(request.method, inputs),
        test_sets=images.test_sets(test.index) or _shots(images, problem, test.labels),
    )


def _shots(images: OpenImages, problem: Problem, labels: npt.NDArray[np.int64]) -> Mapping[str, torch.Tensor]:
    """Where test samples of classes of many, medium and few training samples lie, beside all of them."""
    if images.facts.files is None or not images.facts.files.by_shots:
        return {}
    parts = {TEST: np.arange(len(labels))} | shot_groups(problem.class_counts.cpu().numpy(), labels)
    return {name: torch.from_numpy(rows).to(images.device) for name, rows in parts.items() if len(rows)}


def _meta(options: Options, inputs: Inputs) -> Meta | None:
    weighting = options.weighting
    if not isinstance(weighting, MetaLearned):
        return None
    per_class = inputs["metaset"].manifest["notes"]["per_class"]
    rule, views = parse_meta(weighting.meta_set), weighting.meta_views
    return Meta(rule, per_class, weighting.meta_batch, weighting.meta_every, views)


def _problem(inputs: Inputs, train: Split, images: OpenImages, store: Store) -> Problem:
    def asked(role: str) -> torch.Tensor | None:
        """(N, K) logits of the run in this role on the training set."""
        run = StoredRun.of(inputs[role]) if role in inputs else None
        return None if run is None else run.logits(store, len(train.labels), images.device)

    problem = Problem(
        images.facts.num_classes,
        torch.from_numpy(train.labels).to(images.device),
        weighting=load_weighting(inputs["weighting"].path) if "weighting" in inputs else None,
        first_logits=asked("first"),
        candidates=_candidates(inputs["biased"], train.index, images.device),
        first_memory=StoredRun.of(inputs["first"]).memory() if "first" in inputs else {},
    )
    predicted = asked("labels_from")
    return problem if predicted is None else problem.relabelled(predicted)


def _candidates(biased: Stored, rows: npt.NDArray[np.int64], device: torch.device) -> torch.Tensor | None:
    """(N, K) bool candidates of rows of a biased table; None where the labels are not hidden."""
    file = biased.path / Biased.CANDIDATES
    if not file.is_file():
        return None
    return torch.from_numpy(np.load(file, mmap_mode="r", allow_pickle=False)[rows]).to(device)


def new_model(options: Options, task: Task, channels: int, device: torch.device) -> nn.Module:
    """The classifier that a method asks for, freshly drawn from the run's seed.

    Args:
        options: of the method.
        task: what it is for.
        channels: of a picture, or the length of a vector.
        device: where it goes.

    Raises:
        ConfigError: the network has no head as the method needs it.
    """
    network, seed = task.recipe.network, stream_seed(task.seed, "model")
    classes, head, towers = task.problem.num_classes, options.head, options.towers
    return models.build(network, channels, classes, seed, head, towers).to(device)


def start(model: nn.Module, request: TrainRequest, inputs: Inputs) -> None:
    """Load what the model starts from, and freeze what is not trained."""
    if "pretrained" in inputs:
        load_trunk(model, load_file(inputs["pretrained"].path / Pretrained.WEIGHTS))
    if request.method.starts_from_first and "first" in inputs:
        load_trunk(model, StoredRun.of(inputs["first"]).weights())
    if "start" in inputs:
        model.load_state_dict(StoredRun.of(inputs["start"]).weights())
    if request.recipe.head_only:
        freeze_trunk(model)


def new_state(
    options: Options, task: Task, model: nn.Module, device: torch.device, observer: Observer | None = None
) -> TrainState:
    """A run before its first step, whose random numbers follow from its seed.

    Args:
        options: of the method.
        task: what it trains on.
        model: on the device, as it starts; it gets the recipe's memory order.
        device: where it trains.
        observer: sees it after each epoch.

    Raises:
        ConfigError: the method needs another optimiser.
    """
    recipe = task.recipe
    if recipe.optimizer.name != "sgd" and options.steps_as_optimizer:
        raise ConfigError(f"{options.kind} takes the optimiser's own virtual step; use sgd")
    method = methods.build(options, task.problem, stream_seed(task.seed, "method")).to(device)
    if recipe.channels_last:
        model = model.to(memory_format=torch.channels_last)
    use_tf32(recipe.precision)
    torch.manual_seed(stream_seed(task.seed, "layers"))  # what dropout draws from
    return TrainState(
        model=model,
        method=method,
        optimizer=optimizer(model.parameters(), recipe.optimizer).to(device),
        teacher=None if recipe.ema is None else Teacher(model),
        device=device,
        meta_rows=torch.empty(0, dtype=torch.int64, device=device),
        loss_sum=torch.zeros((), dtype=torch.float64, device=device),
        observer=observer,
    )


def share(task: Task, state: TrainState, team: Team) -> tuple[Task, TrainState]:
    """The same run on a team of processes; every one of them calls this. A team of one changes nothing.

    Raises:
        ConfigError: the method works on images of the whole batch, the batch cannot be divided, or the
            network has batch norms whose statistics cannot be shared.
    """
    if team.size == 1:
        return task, state
    if not (state.method.facts.divisible and state.method.weighting.meta_loss.divisible):
        with_it = "with its meta loss " * state.method.facts.divisible
        name = f"{type(state.method).__name__} {with_it}"
        raise ConfigError(f"{name}trains on one process only", "start it without torchrun")
    sizes = [task.recipe.batch_size, *([task.meta.batch_size] if task.meta else [])]
    if any(size % team.size for size in sizes):
        raise ConfigError(
            f"batches of {sizes} samples cannot be divided among {team.size} processes",
            "choose batch sizes that are multiples of the number of processes",
        )
    if odd := unshared_norms(state.model):
        hint = "start it without torchrun"
        raise ConfigError(f"several processes cannot share the batch norm {odd[0]} of this network", hint)
    teacher = None if state.teacher is None else Shared(state.teacher.module, team)
    shared = Shared(state.model, team)
    return dataclasses.replace(task, team=team), dataclasses.replace(
        state, shared_model=shared, shared_teacher=teacher
    )
