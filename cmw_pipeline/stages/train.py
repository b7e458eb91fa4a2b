"""Train one classifier by one method: the stages ``train`` and ``transfer``."""

import csv
import dataclasses
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file
from torch import nn

from cmw_pipeline.config.contracts import Biased, MetaSet, Pretrained, Run, TrainRequest
from cmw_pipeline.config.datasets import FACTS, DatasetFacts
from cmw_pipeline.config.meta_names import parse_meta
from cmw_pipeline.config.methods import KINDS
from cmw_pipeline.config.methods import Method as MethodOptions
from cmw_pipeline.config.schema import Recipe
from cmw_pipeline.config.weightings import MetaLearned
from cmw_pipeline.data.loader import Store
from cmw_pipeline.data.opened import OpenImages
from cmw_pipeline.errors import ConfigError
from cmw_pipeline.io.atomic import write_text
from cmw_pipeline.io.checkpoints import save_tensors
from cmw_pipeline.io.manifests import EARLIER, Stored
from cmw_pipeline.io.tables import Columns, read_columns, write_array, write_columns
from cmw_pipeline.meta.weighting import load_weighting
from cmw_pipeline.methods import registry as methods
from cmw_pipeline.methods.base import Batch, Method, Problem
from cmw_pipeline.methods.noise_teacher import posterior_of
from cmw_pipeline.models import registry as models
from cmw_pipeline.models.trunk import freeze_trunk, load_trunk
from cmw_pipeline.runtime.memory import keep_memory
from cmw_pipeline.runtime.seeds import stream_seed
from cmw_pipeline.runtime.signals import StopRequest
from cmw_pipeline.runtime.team import SOLO, Team
from cmw_pipeline.runtime.workers import decode_workers
from cmw_pipeline.stages.base import Job
from cmw_pipeline.training.batches import Meta, Task
from cmw_pipeline.training.ema import Teacher
from cmw_pipeline.training.evaluate import dropout_variance, predict, sample_losses
from cmw_pipeline.training.loop import train
from cmw_pipeline.training.optim import optimizer
from cmw_pipeline.training.parallel import Shared
from cmw_pipeline.training.precision import on_device, use_tf32
from cmw_pipeline.training.state import TrainState
from cmw_pipeline.types import TEST, TRAIN, Candidates


@dataclass(frozen=True)
class Split:
    """Positions in ``images.npy`` and their labels: the given ones, or the meta-set's."""

    index: npt.NDArray[np.int64]
    labels: npt.NDArray[np.int64]


def run(
    job: Job[TrainRequest],
    device: torch.device,
    stop: StopRequest,
    checkpoint_seconds: float = 60.0,
    team: Team = SOLO,
) -> None:
    """Train a cell and write its rows, its model and what became of each training sample.

    The clean labels are never read: of the label table only index, label and split are loaded.

    Raises:
        Preempted, NumericsError, IntegrityError: see :func:`cmw_pipeline.training.loop.train`.
        ConfigError: a team of processes was asked to train what only one can.
    """
    options = job.request.method
    if device.type == "cpu":
        keep_memory()
    recipe = on_device(job.request.recipe, device)
    facts = FACTS[job.request.source]
    samples, held_out, test = read_splits(job)
    raw = job.inputs["raw"]
    images = OpenImages.open(
        raw.path, raw.manifest["notes"], facts, recipe, device, decode_workers(team.size)
    )
    task = _task(job, recipe, images, options, (samples, held_out, test), device)
    state = _state(job, options, task, facts.image_shape[2], device)
    if team.size > 1:
        task, state = share(task, state, team)
    job.notes[EARLIER] = train(task, state, stop, job.side, checkpoint_seconds)
    _write(job, task, state, samples, test)
    job.notes.update({"device": _device_name(device), "precision": recipe.precision, "smoke": recipe.smoke})


def read_splits(job: Job[TrainRequest]) -> tuple[Split, Split, Split]:
    """Training set, held-out meta-set and test set; held-out images are not trained on."""
    table = read_columns(job.inputs["biased"].path, Biased.LABELS, ["index", "label", "split"])
    held_out = Split(np.empty(0, np.int64), np.empty(0, np.int64))
    if "metaset" in job.inputs:
        held_out = _split(read_columns(job.inputs["metaset"].path, MetaSet.SAMPLES))
    is_train = (table["split"] == TRAIN) & ~np.isin(table["index"], held_out.index)
    return _split(table, is_train), held_out, _split(table, table["split"] == TEST)


def _split(table: Columns, rows: npt.NDArray[np.bool_] | slice = slice(None)) -> Split:
    return Split(table["index"][rows].astype(np.int64), table["label"][rows].astype(np.int64))


def _candidates(folder: Path, rows: npt.NDArray[np.int64]) -> Candidates | None:
    """(N, K) candidates of rows of a biased table; None where the labels are not hidden."""
    file = folder / Biased.CANDIDATES
    return np.load(file, mmap_mode="r", allow_pickle=False)[rows] if file.is_file() else None


def _task(
    job: Job[TrainRequest],
    recipe: Recipe,
    images: OpenImages,
    options: MethodOptions,
    splits: tuple[Split, Split, Split],
    device: torch.device,
) -> Task:
    samples, held_out, test = splits
    facts = images.facts
    meta = None
    weighting = options.weighting
    if isinstance(weighting, MetaLearned):
        per_class = job.inputs["metaset"].manifest["notes"]["per_class"]
        meta = Meta(parse_meta(weighting.meta_set), per_class, weighting.meta_batch, weighting.meta_every)
    labels = torch.from_numpy(np.concatenate([samples.labels, held_out.labels])).to(device)
    store = images.store(np.concatenate([samples.index, held_out.index]))
    function = load_weighting(job.inputs["weighting"].path) if "weighting" in job.inputs else None
    problem = Problem(facts.num_classes, labels[: len(samples.labels)], function)
    candidates = _candidates(job.inputs["biased"].path, samples.index)
    if candidates is not None:
        problem = dataclasses.replace(problem, candidates=torch.from_numpy(candidates).to(device))
    if "first" in job.inputs:
        logits = _first_logits(job.inputs["first"], problem, store, facts, device)
        memory = load_file(job.inputs["first"].path / Run.METHOD)
        problem = dataclasses.replace(problem, first_logits=logits, first_memory=memory)
    if "labels_from" in job.inputs:
        logits = _first_logits(job.inputs["labels_from"], problem, store, facts, device)
        problem = problem.relabelled(logits)
        labels = torch.cat([problem.labels, labels[len(problem.labels) :]])
    return Task(
        recipe=recipe,
        seed=job.request.seed,
        problem=problem,
        store=store,
        labels=labels,
        test_store=images.store(test.index),
        test_labels=torch.from_numpy(test.labels).to(device),
        meta=meta,
        test_sets=images.test_sets(test.index),
    )


def _first_logits(
    first: Stored, problem: Problem, store: Store, facts: DatasetFacts, device: torch.device
) -> torch.Tensor:
    """(N, K) logits of the run that this one starts from, on this one's training set."""
    request = first.manifest["params"]
    recipe = on_device(Recipe.model_validate(request["recipe"]), device)
    method = KINDS[request["method"]["kind"]]
    channels, classes = facts.image_shape[2], facts.num_classes
    model = models.build(recipe.network, channels, classes, 0, method.head, method.towers).to(device)
    model.load_state_dict(load_file(first.path / Run.MODEL))
    return predict(model, store, len(problem.labels), recipe)


def _state(
    job: Job[TrainRequest], options: MethodOptions, task: Task, channels: int, device: torch.device
) -> TrainState:
    seed, recipe, problem = task.seed, task.recipe, task.problem
    method = methods.build(options, problem, stream_seed(seed, "method")).to(device)
    init, head, towers = stream_seed(seed, "model"), options.head, options.towers
    model = models.build(recipe.network, channels, problem.num_classes, init, head, towers).to(device)
    _start(model, job, method, recipe)
    if recipe.channels_last:
        model = model.to(memory_format=torch.channels_last)
    use_tf32(recipe.precision)
    torch.manual_seed(stream_seed(seed, "layers"))  # what dropout draws from
    return TrainState(
        model=model,
        method=method,
        optimizer=optimizer(model.parameters(), recipe.optimizer).to(device),
        teacher=None if recipe.ema is None else Teacher(model),
        device=device,
        meta_rows=torch.empty(0, dtype=torch.int64, device=device),
        loss_sum=torch.zeros((), dtype=torch.float64, device=device),
    )


def _start(model: nn.Module, job: Job[TrainRequest], method: Method, recipe: Recipe) -> None:
    """Load what the model starts from, and freeze what is not trained."""
    inputs = job.inputs
    if recipe.optimizer.name != "sgd" and method.facts.steps_as_optimizer:
        raise ConfigError(f"{job.request.method.kind} takes the optimiser's own virtual step; use sgd")
    if "pretrained" in inputs:
        load_trunk(model, load_file(inputs["pretrained"].path / Pretrained.WEIGHTS))
    if method.facts.starts_from_first and "first" in inputs:
        load_trunk(model, load_file(inputs["first"].path / Run.MODEL))
    if "start" in inputs:
        model.load_state_dict(load_file(inputs["start"].path / Run.MODEL))
    if recipe.head_only:
        freeze_trunk(model)


def share(task: Task, state: TrainState, team: Team) -> tuple[Task, TrainState]:
    """The same run on a team of processes; every one of them calls this.

    Raises:
        ConfigError: the method works on images of the whole batch, or the batch cannot be divided.
    """
    if not state.method.facts.divisible or state.method.weighting.meta_mixup:
        name = f"{type(state.method).__name__} {'with meta_mixup ' * state.method.facts.divisible}"
        raise ConfigError(f"{name}trains on one process only", "start it without torchrun")
    sizes = [task.recipe.batch_size, *([task.meta.batch_size] if task.meta else [])]
    if any(size % team.size for size in sizes):
        raise ConfigError(
            f"batches of {sizes} samples cannot be divided among {team.size} processes",
            "choose batch sizes that are multiples of the number of processes",
        )
    teacher = None if state.teacher is None else Shared(state.teacher.module, team)
    shared = Shared(state.model, team)
    return dataclasses.replace(task, team=team), dataclasses.replace(state, shared=shared, asked=teacher)


def _write(job: Job[TrainRequest], task: Task, state: TrainState, samples: Split, test: Split) -> None:
    write_text(job.out / Run.EPOCHS, _text(state.records))
    write_columns(job.out, Run.ROWS, run_rows(state.records))
    write_columns(job.out, Run.SAMPLES, _sample_rows(task, state, samples))
    write_columns(job.out, Run.PREDICTIONS, _predictions(task, state, test))
    save_tensors(job.out / Run.MODEL, state.model.state_dict())
    if state.teacher is not None:
        save_tensors(job.out / Run.TEACHER, state.teacher.module.state_dict())
    save_tensors(job.out / Run.METHOD, state.method.state_dict())
    posterior = posterior_of(state.method)
    if posterior is not None:
        write_array(job.out / Run.POSTERIOR, posterior.cpu().numpy())


def _text(records: list[dict[str, float]]) -> str:
    """CSV, a line an epoch."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(records[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    return text.getvalue()


def run_rows(records: list[dict[str, float]]) -> Columns:
    """One row a number: each test metric at the last epoch, and at the epoch of the best accuracy.

    A named part of the test samples is a split of its own.
    """
    rows = []
    for metric in ("accuracy", "ema_accuracy"):
        if metric in records[-1]:
            best = max(records, key=lambda record: record[metric])  # the first of equals
            for protocol, record in (("last", records[-1]), ("best", best)):
                parts = [name for name in record if name.endswith((f":{metric}", f":top5_{metric}"))]
                for name in (metric, *parts):
                    split, _, measure = name.rpartition(":")
                    rows.append((protocol, split or TEST, measure, record[name], record["epoch"] + 1))
    return dict(zip(Run.ROWS.columns, map(np.array, zip(*rows, strict=True)), strict=True))


def _sample_rows(task: Task, state: TrainState, samples: Split) -> Columns:
    """Loss and weight of every training sample under the final model, by its given label."""
    rows = torch.arange(task.num_train, device=state.device)
    losses = sample_losses(state.model, task.store, task.problem.labels, task.recipe, task.team)
    batch = Batch(torch.empty(0), task.problem.labels, rows)
    method = state.method.eval()
    with torch.no_grad():
        weights = method.weights(losses, batch) if method.active else torch.ones_like(losses)
    return {
        "index": samples.index,
        "label": task.problem.labels.cpu().numpy(),
        "loss": losses.cpu().numpy(),
        "weight": weights.cpu().numpy(),
    }


def _predictions(task: Task, state: TrainState, test: Split) -> Columns:
    """What the final model says of every test sample, and how sure it is by several scores."""
    logits = predict(state.model, task.test_store, len(test.index), task.recipe, task.team)
    spread = dropout_variance(state.model, task.test_store, len(test.index), task.recipe)
    return {
        "index": test.index,
        "label": test.labels,
        "prediction": logits.argmax(dim=1).cpu().numpy(),
        "confidence": state.method.confidence(logits).cpu().numpy(),
        "softmax_response": logits.double().softmax(dim=1).amax(dim=1).cpu().numpy(),
        "mc_dropout": np.full(len(test.index), np.nan) if spread is None else -spread.cpu().numpy(),
    }


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
