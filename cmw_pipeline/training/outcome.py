"""What became of a run: its numbers, its training samples and its predictions, as columns of its files."""

import csv
import io

import numpy as np
import numpy.typing as npt
import torch

from cmw_pipeline.config.contracts import Run
from cmw_pipeline.io.tables import Columns
from cmw_pipeline.methods.base import Batch, Method
from cmw_pipeline.training.batches import Task
from cmw_pipeline.training.evaluate import dropout_variance, predict, sample_losses
from cmw_pipeline.training.state import Record, TrainState
from cmw_pipeline.types import TEST

Index = npt.NDArray[np.int64]
"""Rows of the raw artefact."""


def epochs_text(records: list[Record]) -> str:
    """CSV with a line an epoch; a score on a named part of the test samples is headed ``part:metric``.

    The scores of an epoch that was not evaluated are empty.
    """
    rows = [_line(record) for record in records]
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[-1]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def verdict(records: list[Record]) -> str:
    """The line that ends a run's log: test accuracy after the last epoch, and at best.

    >>> record = {"epoch": 0, "scores": {"test": {"accuracy": 97.5}}}
    >>> verdict([record, {"epoch": 1, "scores": {"test": {"accuracy": 96.0}}}])
    'finished: test 96.00% after epoch 2, the last; at best 97.50% after epoch 1'
    """
    seen = [(r["scores"][TEST]["accuracy"], r["epoch"] + 1) for r in records if r["scores"].get(TEST)]
    if not seen:
        return f"finished: {len(records)} epochs, no test samples"
    (last, end), (best, place) = seen[-1], max(seen, key=lambda pair: pair[0])
    return f"finished: test {last:.2f}% after epoch {end}, the last; at best {best:.2f}% after epoch {place}"


def _line(record: Record) -> dict[str, float]:
    plain: dict[str, float] = {name: record[name] for name in ("epoch", "lr", "train_loss")}
    for split, scores in record["scores"].items():
        plain |= {name if split == TEST else f"{split}:{name}": value for name, value in scores.items()}
    return plain


def run_rows(records: list[Record]) -> Columns:
    """Columns of ``Run.ROWS``: each test metric at the last epoch, and at the evaluated one of best accuracy.

    A named part of the test samples is a split of its own.
    """
    rows, records = [], [record for record in records if record["scores"]]
    for metric in ("accuracy", "ema_accuracy"):
        if metric in records[-1]["scores"][TEST]:
            best = max(records, key=lambda record: record["scores"][TEST][metric])  # the first of equals
            for protocol, record in (("last", records[-1]), ("best", best)):
                for split, scores in record["scores"].items():
                    measures = [name for name in (metric, f"top5_{metric}") if name in scores]
                    epoch = record["epoch"] + 1
                    rows += [(protocol, split, name, scores[name], epoch) for name in measures]
    return dict(zip(Run.ROWS.columns, map(np.array, zip(*rows, strict=True)), strict=True))


def losses_and_weights(task: Task, state: TrainState) -> tuple[torch.Tensor, torch.Tensor]:
    """(N,) cross-entropy of each training sample's given label under the final model, and its weight.

    The weight is that of the loss that the weighting has learned of, the method's own.
    """
    method, rows = state.method.eval(), torch.arange(task.num_train, device=state.device)
    labels = task.problem.labels
    losses = sample_losses(state.model, task.store, labels, task.recipe, task.team)
    own = losses
    if method.active and type(method).sample_loss is not Method.sample_loss:
        own = sample_losses(state.model, task.store, labels, task.recipe, task.team, method.sample_loss)
    with torch.no_grad():
        batch = Batch(torch.empty(0), labels, rows)
        if method.weighs:
            method.weighting.settle(own, labels)
        weights = method.weights(own, batch) if method.active else torch.ones_like(losses)
    return losses, weights


def samples(task: Task, state: TrainState, index: Index) -> Columns:
    """Columns of ``Run.SAMPLES``, whose numbers are given."""
    losses, weights = losses_and_weights(task, state)
    return {
        "index": index,
        "label": task.problem.labels.cpu().numpy(),
        "loss": losses.cpu().numpy(),
        "weight": weights.cpu().numpy(),
    }


def predictions(task: Task, state: TrainState, index: Index) -> Columns:
    """Columns of ``Run.PREDICTIONS``: what the final model says of the test samples of these numbers."""
    logits = predict(state.model, task.test_store, len(index), task.recipe, task.team)
    spread = dropout_variance(state.model, task.test_store, len(index), task.recipe)
    return {
        "index": index,
        "label": task.test_labels.cpu().numpy(),
        "prediction": logits.argmax(dim=1).cpu().numpy(),
        "confidence": state.method.confidence(logits).cpu().numpy(),
        "softmax_response": logits.double().softmax(dim=1).amax(dim=1).cpu().numpy(),
        "mc_dropout": np.full(len(index), np.nan) if spread is None else -spread.cpu().numpy(),
    }
