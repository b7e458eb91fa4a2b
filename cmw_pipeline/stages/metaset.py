"""Stage metaset: the trustworthy samples of a biased label table, or the check that there can be any."""

import numpy as np
import numpy.typing as npt

from cmw_pipeline.config.contracts import Biased, MetaSet, MetaSetRequest
from cmw_pipeline.config.datasets import FACTS
from cmw_pipeline.errors import ConfigError
from cmw_pipeline.io.tables import Columns, read_columns, write_columns
from cmw_pipeline.runtime.seeds import stream
from cmw_pipeline.stages.base import Job
from cmw_pipeline.types import TEST, TRAIN, UNUSED

Counts = npt.NDArray[np.int64]
Rows = npt.NDArray[np.int64]
"""Of the biased table."""


def run(job: Job[MetaSetRequest]) -> None:
    """Write ``metaset.parquet``: the held-out samples with their clean labels.

    ``clean-K`` draws K samples of each clean class, from those that a long tail removed first and then
    from training; training leaves out every index of this table. ``lowest-K``, ``random-min`` and
    ``labelled`` pick from the training set while it trains, as ``any-K`` does: their table is empty, and
    only checked to be possible.

    Raises:
        ConfigError: a class has too few samples for the rule, or the clean labels are not known.
    """
    rule, name = job.request.rule, job.artefact.name
    table = read_columns(job.inputs["biased"].path, Biased.LABELS)
    num_classes = FACTS[job.artefact.inputs["biased"].request.source].num_classes
    chosen = np.empty(0, np.int64)
    if rule.kind == "clean" and rule.per_class is not None:
        per_class = rule.per_class
        rng = stream(job.request.seed, "metaset", rule.name)
        chosen = _held_out(table, per_class, num_classes, rng, name)
    elif rule.kind == "any":
        per_class = _enough(table, rule.per_class or 1, name)
    else:
        per_class = _available(table, rule.per_class, num_classes, name)
    metaset = {"index": table["index"][chosen], "label": table["clean_label"][chosen]}
    write_columns(job.out, MetaSet.SAMPLES, metaset)
    job.notes["rule"] = rule.name
    job.notes["per_class"] = per_class


def _held_out(table: Columns, per_class: int, num_classes: int, rng: np.random.Generator, name: str) -> Rows:
    """K rows of each clean class, in the order of the table.

    Each class needs one sample more than are held out: ``unused`` ones go first, so one that is left over
    is a training sample or has one beside it. Where clean labels of training samples are not known, all are
    of those that are: trusted samples among them, or the trustworthy images beside them, ``unused`` ones.
    """
    split, clean = table["split"], np.ma.getdata(table["clean_label"])
    known = ~np.ma.getmaskarray(table["clean_label"])
    everything = pool = np.flatnonzero(split != TEST)
    unknown, left = int((~known[pool]).sum()), 1
    trusted = np.flatnonzero((split != TEST) & known)
    if unknown and len(trusted):
        pool, left = trusted, 0
    elif unknown:
        raise ConfigError(
            f"{name}: {unknown} of {len(pool)} clean labels are not known, so none can be held out",
            "choose the meta-set by lowest-K or random-min",
        )
    counts = np.bincount(clean[pool], minlength=num_classes)
    if counts.min() < per_class + left:
        raise ConfigError(
            f"{name}: class {counts.argmin()} has {counts.min()} clean samples outside the test set; "
            f"{per_class + left} are needed, {per_class} to hold out" + left * " and one to train on",
            f"write clean-K with K at most {counts.min() - left}" if counts.min() > left else None,
        )
    shuffled = pool[rng.permutation(len(pool))]
    unused_first = shuffled[np.argsort(split[shuffled] != UNUSED, kind="stable")]
    of_class = [unused_first[clean[unused_first] == label][:per_class] for label in range(num_classes)]
    chosen = np.sort(np.concatenate(of_class))
    _keep_given_labels(table, everything, np.setdiff1d(everything, chosen), num_classes, name)
    return chosen


def _keep_given_labels(table: Columns, pool: Rows, left: Rows, num_classes: int, name: str) -> None:
    """Refuse a draw that takes away the last training sample with some given label."""
    before, after = (_given(table, num_classes, rows) for rows in (pool, left))
    lost = np.flatnonzero((before > 0) & (after == 0))
    if len(lost):
        raise ConfigError(
            f"{name}: held out would be all {before[lost[0]]} training samples with label {lost[0]}",
            "write clean-K with a smaller K",
        )


def _available(table: Columns, per_class: int | None, num_classes: int, name: str) -> int:
    """How many training samples of each given label the rule takes; all classes must have that many."""
    counts = _given(table, num_classes)
    needed = per_class or max(int(counts.min()), 1)
    if counts.min() < needed:
        hint = f"write lowest-K with K at most {counts.min()}" if counts.min() > 0 else "choose clean-K"
        raise ConfigError(
            f"{name}: class {counts.argmin()} has {counts.min()} training samples; {needed} are needed",
            hint,
        )
    return needed


def _enough(table: Columns, needed: int, name: str) -> int:
    """How many training samples the rule takes in all."""
    there = int((table["split"] == TRAIN).sum())
    if there < needed:
        raise ConfigError(
            f"{name}: there are {there} training samples; {needed} are needed",
            f"write any-K with K at most {there}",
        )
    return needed


def _given(table: Columns, num_classes: int, rows: Rows | slice = slice(None)) -> Counts:
    """Training samples of each given label, among some rows of the table."""
    labels = table["label"][rows][table["split"][rows] == TRAIN]
    return np.bincount(labels, minlength=num_classes)
