"""The one training loop. It knows methods only through their contract."""

import logging
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from cmw_pipeline.config.meta_names import MetaRule
from cmw_pipeline.config.schema import Recipe
from cmw_pipeline.data.loader import EpochPlan, ImageStore
from cmw_pipeline.errors import IntegrityError, Preempted
from cmw_pipeline.io.checkpoints import load_latest, save_checkpoint
from cmw_pipeline.meta.selection import lowest_per_class, random_per_class
from cmw_pipeline.methods.base import Batch, Problem
from cmw_pipeline.metrics.accuracy import top_k_accuracy
from cmw_pipeline.runtime.logs import progress
from cmw_pipeline.runtime.seeds import stream
from cmw_pipeline.runtime.signals import StopRequest
from cmw_pipeline.training.evaluate import predict
from cmw_pipeline.training.optim import learning_rate
from cmw_pipeline.training.state import TrainState
from cmw_pipeline.training.step import training_step

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Meta:
    """Where meta batches come from. ``per_class`` is the resolved number of images a class."""

    rule: MetaRule
    per_class: int
    batch_size: int
    every: int


@dataclass(frozen=True)
class Task:
    """What a run trains on. Rows 0..N-1 of the store are the training set, held-out meta rows follow."""

    recipe: Recipe
    seed: int
    problem: Problem
    store: ImageStore
    labels: torch.Tensor
    """(N + M,) int64: given labels of the training set, then labels of the held-out meta-set."""
    test_store: ImageStore
    test_labels: torch.Tensor
    meta: Meta | None

    @property
    def num_train(self) -> int:
        """N."""
        return len(self.problem.labels)

    @property
    def batch_size(self) -> int:
        """B, never more than N."""
        return min(self.recipe.batch_size, self.num_train)

    @property
    def steps(self) -> int:
        """Steps an epoch; an incomplete batch at the end is left out."""
        return self.num_train // self.batch_size


def train(
    task: Task, state: TrainState, stop: StopRequest, side: Path, checkpoint_seconds: float = 60.0
) -> None:
    """Train to the last epoch, from the newest checkpoint in ``side`` if there is one.

    Raises:
        Preempted: ``stop`` was set; a checkpoint was written and the same call continues.
        NumericsError: a loss is not finite.
        IntegrityError: the checkpoints do not belong to this run or are damaged.
    """
    _resume(state, side)
    saved = time.monotonic()
    for epoch in range(state.epoch, task.recipe.epochs):
        started = time.monotonic()
        _begin_epoch(task, state)
        plans = _plans(task, state)
        title = f"epoch {epoch + 1}/{task.recipe.epochs}"
        for step in progress(range(state.step, task.steps), task.steps - state.step, title):
            _step(task, state, plans, step)
            stopping = bool(stop)
            if stopping or time.monotonic() - saved > checkpoint_seconds:
                save_checkpoint(side, epoch * task.steps + state.step, *state.pack())
                saved = time.monotonic()
            if stopping:
                raise Preempted(f"stopped by {stop.reason} in {title}; the same command continues it")
        _end_epoch(task, state, time.monotonic() - started)


def _resume(state: TrainState, side: Path) -> None:
    found = load_latest(side)
    if found is None:
        return
    try:
        state.restore(*found)
    except (RuntimeError, KeyError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise IntegrityError(
            f"{side}: checkpoints of another run: {reason}", f"remove {side} to start afresh"
        ) from None
    log.info("continuing in epoch %d after step %d", state.epoch + 1, state.step)


def _begin_epoch(task: Task, state: TrainState) -> None:
    """Set the rate, tell the method, and pick this epoch's meta-set unless resumed inside the epoch."""
    state.optimizer.rate = learning_rate(task.recipe, state.epoch)
    state.method.begin_epoch(state.epoch)
    if task.meta and state.method.active and state.step == 0:
        state.meta_rows = _meta_rows(task, state, task.meta)


def _meta_rows(task: Task, state: TrainState, meta: Meta) -> torch.Tensor:
    labels = task.problem.labels.cpu().numpy()
    if meta.rule.kind == "clean":
        return torch.arange(task.num_train, len(task.labels), device=state.device)
    if meta.rule.kind == "random":
        rows = random_per_class(labels, meta.per_class, stream(task.seed, "meta-set", state.epoch))
    else:
        logits = predict(state.ema or state.model, task.store, task.num_train)
        losses = torch.nn.functional.cross_entropy(logits, task.problem.labels, reduction="none")
        rows = lowest_per_class(labels, losses.cpu().numpy(), meta.per_class)
    return torch.from_numpy(rows).to(state.device)


def _plans(task: Task, state: TrainState) -> tuple[EpochPlan, EpochPlan | None]:
    augment, steps = task.recipe.augment, task.steps
    rng = stream(task.seed, "batches", state.epoch)
    train_plan = EpochPlan.draw(np.arange(task.num_train), task.batch_size, steps, augment, rng)
    if task.meta is None or not state.method.active:
        return train_plan.to(state.device), None
    pool = state.meta_rows.cpu().numpy()
    rng = stream(task.seed, "meta-batches", state.epoch)
    meta_plan = EpochPlan.draw(pool, min(task.meta.batch_size, len(pool)), steps, augment, rng)
    return train_plan.to(state.device), meta_plan.to(state.device)


def _step(task: Task, state: TrainState, plans: tuple[EpochPlan, EpochPlan | None], step: int) -> None:
    train_plan, meta_plan = plans
    batch = _batch(task, train_plan, step, task.batch_size)
    meta_batch = None
    iteration = state.epoch * task.steps + step
    if task.meta and meta_plan and iteration % task.meta.every == 0:
        size = min(task.meta.batch_size, len(state.meta_rows))
        meta_batch = _batch(task, meta_plan, step, size)
    loss = training_step(state.model, state.method, state.optimizer, state.theta_optimizer, batch, meta_batch)
    if state.ema is not None:
        state.ema.update_parameters(state.model)
    state.loss_sum += loss
    state.step = step + 1


def _batch(task: Task, plan: EpochPlan, step: int, size: int) -> Batch:
    rows, shift, flip = plan.batch(step, size)
    augment = task.recipe.augment
    plain = not augment.pad and not augment.flip
    images = task.store.plain(rows) if plain else task.store.augmented(rows, shift, flip)
    return Batch(images, task.labels[rows], rows)


def _end_epoch(task: Task, state: TrainState, seconds: float) -> None:
    record = {
        "epoch": state.epoch,
        "lr": learning_rate(task.recipe, state.epoch),
        "train_loss": float(state.loss_sum) / task.steps,
        "seconds": round(seconds, 3),
    }
    for name, model in (("accuracy", state.model), ("ema_accuracy", state.ema)):
        if model is not None:
            logits = predict(model, task.test_store, len(task.test_labels))
            record[name] = top_k_accuracy(logits.cpu().numpy(), task.test_labels.cpu().numpy())
    place = f"epoch {state.epoch + 1}/{task.recipe.epochs}"
    log.info("%s  loss %.4f  test %.2f%%  %.1f s", place, record["train_loss"], record["accuracy"], seconds)
    state.records.append(record)
    state.epoch, state.step = state.epoch + 1, 0
    state.loss_sum = torch.zeros_like(state.loss_sum)
