"""The one training loop. It knows methods only through their contract."""

import functools
import logging
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn

from cmw_pipeline.errors import IntegrityError, NumericsError, Preempted
from cmw_pipeline.io.checkpoints import load_latest, save_checkpoint
from cmw_pipeline.methods.base import Networks
from cmw_pipeline.metrics.accuracy import top_k_accuracy
from cmw_pipeline.runtime.logs import in_words, progress
from cmw_pipeline.runtime.signals import StopRequest
from cmw_pipeline.training.batches import Task, Turn, meta_plan, pick_meta_rows, show, upcoming
from cmw_pipeline.training.epoch_plan import EpochPlan
from cmw_pipeline.training.evaluate import predict
from cmw_pipeline.training.optim import learning_rate
from cmw_pipeline.training.program import Iterations
from cmw_pipeline.training.state import Record, TrainState
from cmw_pipeline.types import TEST

log = logging.getLogger(__name__)


def train(
    task: Task, state: TrainState, stop: StopRequest, side: Path, checkpoint_seconds: float = 60.0
) -> float:
    """Train to the last epoch, from the newest checkpoint in ``side`` if there is one.

    Returns:
        Seconds of training that the checkpoint held: what earlier attempts cost.

    Raises:
        Preempted: ``stop`` was set; a checkpoint was written and the same call continues.
        NumericsError: a loss is not finite.
        IntegrityError: the checkpoints do not belong to this run or are damaged.
    """
    _resume(state, side, task.recipe.epochs)
    iterations = Iterations(state, task.recipe)
    saved = began = time.monotonic()
    earlier = state.spent
    for epoch in range(state.epoch, task.recipe.epochs):
        started = time.monotonic()
        turns, metas = _begin_epoch(task, state)
        iterations.begin_epoch()
        batches = [(turn, step) for turn in turns for step in range(turn.steps)]
        task.store.expect(upcoming(task, turns, metas, state.step, state.iteration))
        title = f"epoch {epoch + 1}/{task.recipe.epochs}"
        try:
            for turn, step in progress(batches[state.step :], len(batches) - state.step, title):
                _step(task, state, iterations, turn, step, metas)
                due = time.monotonic() - saved > checkpoint_seconds
                stopping, saving = divmod(task.team.agree(2 * bool(stop) + due), 2)
                if stopping or saving:
                    _refuse_infinite(state)
                    state.spent = earlier + time.monotonic() - began
                    if task.team.leads:
                        save_checkpoint(side, state.iteration, *state.pack())
                    saved = time.monotonic()
                if stopping:
                    raise Preempted(f"stopped by {stop.reason} in {title}; the same command continues it")
        finally:
            task.store.expect(())
        _end_epoch(task, state, len(batches), time.monotonic() - started)
    return earlier


def _resume(state: TrainState, side: Path, epochs: int) -> None:
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
    for record in state.records:  # a log of earlier attempts may be gone
        log.info("%s  before", _said(record, epochs))
    log.info("continuing in epoch %d after step %d", state.epoch + 1, state.step)


def _begin_epoch(task: Task, state: TrainState) -> tuple[list[Turn], EpochPlan | None]:
    """Set the rate, tell the method, pick this epoch's meta-set; the last two not when resumed inside it."""
    epoch, method = state.epoch, state.method
    state.optimizer.rate.fill_(learning_rate(task.recipe, epoch))
    method.begin_epoch(epoch)
    uses_meta = task.meta is not None and method.weighs
    if state.step == 0:
        method.between_epochs(epoch, _networks(task, state))
        if task.meta is not None and uses_meta:
            judge = state.teacher or state.model
            logits = (
                predict(judge, task.store, task.num_train, task.recipe, task.team)
                if task.meta.rule.kind == "lowest"
                else None
            )
            state.meta_rows = pick_meta_rows(task, epoch, task.meta, logits)
    streams = method.turns(epoch)
    turns = [Turn.draw(task, epoch, number, s, state.device) for number, s in enumerate(streams)]
    steps = sum(turn.steps for turn in turns)
    return turns, meta_plan(task, epoch, steps, state.meta_rows) if uses_meta else None


def _networks(task: Task, state: TrainState) -> Networks:
    def scan(network: nn.Module) -> torch.Tensor:
        return predict(network, task.store, task.num_train, task.recipe, task.team)

    return Networks(state.model, state.teacher, functools.cache(scan))


def _step(
    task: Task, state: TrainState, iterations: Iterations, turn: Turn, step: int, metas: EpochPlan | None
) -> None:
    batch = turn.batch(task, step)
    meta_batch = None
    if metas is not None and task.meta is not None and state.iteration % task.meta.every == 0:
        meta_batch = show(task, metas, state.step, task.meta.views)
    iterations.run(batch, meta_batch)
    state.step += 1
    state.iteration += 1


def _refuse_infinite(state: TrainState) -> None:
    """Where the device is not waited for at each step, nothing that is not finite gets on record."""
    if not bool(torch.isfinite(state.loss_sum)):
        place = f"epoch {state.epoch + 1}, before step {state.step + 1}"
        raise NumericsError(
            f"the training loss is {state.loss_sum.item()} in {place}", "lower the learning rate"
        )


def _end_epoch(task: Task, state: TrainState, steps: int, seconds: float) -> None:
    _refuse_infinite(state)
    began, recipe = time.monotonic(), task.recipe
    last = state.epoch + 1 == recipe.epochs
    if last:
        for network in filter(None, (state.model, state.teacher and state.teacher.module)):
            state.method.finish(network)
    due = last or (state.epoch + 1) % recipe.evaluate_every == 0
    scores = _test_scores(task, state) if due else {}
    record: Record = {
        "epoch": state.epoch,
        "lr": learning_rate(recipe, state.epoch),
        "train_loss": float(state.loss_sum) / steps,
        "evaluation_seconds": round(time.monotonic() - began, 3),
        "scores": scores,
    }
    if task.team.leads:
        left = seconds * (recipe.epochs - state.epoch - 1)
        rest = f", {in_words(left)} left" if left else ""
        log.info("%s  %.1f s%s", _said(record, recipe.epochs), seconds, rest)
    state.records.append(record)
    if state.observer is not None:
        state.observer.after_epoch(
            functools.partial(predict, state.model, task.store, task.num_train, task.recipe, task.team)
        )
    state.epoch, state.step = state.epoch + 1, 0
    state.loss_sum.zero_()


def _said(record: Record, epochs: int) -> str:
    """An epoch in a log's words."""
    accuracy = record["scores"].get(TEST, {}).get("accuracy")
    found = "" if accuracy is None else f"  test {accuracy:.2f}%"
    return f"epoch {record['epoch'] + 1}/{epochs}  loss {record['train_loss']:.4f}{found}"


def _test_scores(task: Task, state: TrainState) -> dict[str, dict[str, float]]:
    """Part of the test samples -> metric -> percent, of the network and of its teacher.

    Where the test set has named parts, each has top-1 and top-5 accuracy, and the first one counts as all.
    """
    scores: dict[str, dict[str, float]] = {}
    labels = task.test_labels.cpu().numpy()
    parts = {part: rows.cpu().numpy() for part, rows in task.test_sets.items()}
    whole = next(iter(parts.values()), np.arange(len(labels)))
    for name, model in (("accuracy", state.model), ("ema_accuracy", state.teacher)):
        if model is not None and len(labels):
            logits = predict(model, task.test_store, len(labels), task.recipe, task.team).cpu().numpy()
            scores.setdefault(TEST, {})[name] = top_k_accuracy(logits[whole], labels[whole])
            for part, rows in parts.items():
                of_part, five = scores.setdefault(part, {}), min(5, logits.shape[1])
                of_part[name] = top_k_accuracy(logits[rows], labels[rows])
                of_part[f"top5_{name}"] = top_k_accuracy(logits[rows], labels[rows], five)
    return scores
