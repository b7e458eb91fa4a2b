"""Stage metaset: the trustworthy samples of a biased label table, or the check that there can be any."""

import numpy as np
import numpy.typing as npt
import pandas as pd

from cmw_pipeline.config.datasets import FACTS
from cmw_pipeline.config.meta_names import parse_meta
from cmw_pipeline.data.raw import LABELS
from cmw_pipeline.errors import ConfigError
from cmw_pipeline.io.tables import read_table, write_table
from cmw_pipeline.runtime.seeds import stream
from cmw_pipeline.stages.base import Job
from cmw_pipeline.types import LABEL_COLUMNS, META_COLUMNS, TEST, TRAIN, UNUSED

Counts = npt.NDArray[np.int64]


def run(job: Job) -> None:
    """Write ``metaset.parquet``: the held-out samples with their clean labels.

    ``clean-K`` draws K samples of each clean class, from those that a long tail removed first and then
    from training; training leaves out every index of this table. ``lowest-K``, ``random-min`` and
    ``labelled`` pick from the training set while it trains: their table is empty, and only checked to be
    possible.

    Raises:
        ConfigError: a class has too few samples for the rule, or the clean labels are not known.
    """
    rule = parse_meta(job.params["rule"])
    table = read_table(job.inputs["biased"].path / LABELS, LABEL_COLUMNS)
    num_classes = FACTS[job.artefact.inputs["biased"].params["source"]].num_classes
    if rule.kind == "clean" and rule.per_class is not None:
        per_class = rule.per_class
        rng = stream(job.params["seed"], "metaset", job.params["rule"])
        chosen = _held_out(table, per_class, num_classes, rng, job.artefact.name)
    else:
        per_class = _available(table, rule.per_class, num_classes, job.artefact.name)
        chosen = table.iloc[:0]
    metaset = pd.DataFrame({"index": chosen["index"], "label": chosen["clean_label"]})
    write_table(job.out / "metaset.parquet", metaset, META_COLUMNS)
    job.notes["rule"] = job.params["rule"]
    job.notes["per_class"] = per_class


def _held_out(
    table: pd.DataFrame, per_class: int, num_classes: int, rng: np.random.Generator, name: str
) -> pd.DataFrame:
    """K rows of each clean class, in the order of the table.

    Each class needs one sample more than are held out: ``unused`` ones go first, so one that is left over
    is a training sample or has one beside it. Where clean labels of training samples are not known, all are
    of the trustworthy images beside them, which are ``unused``.
    """
    pool = table[table["split"] != TEST]
    unknown, left = int(pool["clean_label"].isna().sum()), 1
    trusted = pool[(pool["split"] == UNUSED) & pool["clean_label"].notna()]
    if unknown and len(trusted):
        pool, left = trusted, 0
    elif unknown:
        raise ConfigError(
            f"{name}: {unknown} of {len(pool)} clean labels are not known, so none can be held out",
            "choose the meta-set by lowest-K or random-min",
        )
    counts = _counts(pool["clean_label"], num_classes)
    if counts.min() < per_class + left:
        raise ConfigError(
            f"{name}: class {counts.argmin()} has {counts.min()} clean samples outside the test set; "
            f"{per_class + left} are needed, {per_class} to hold out" + left * " and one to train on",
            f"write clean-K with K at most {counts.min() - left}" if counts.min() > left else None,
        )
    shuffled = pool.iloc[rng.permutation(len(pool))]
    unused_first = shuffled.sort_values("split", key=lambda split: split != UNUSED, kind="stable")
    chosen = unused_first.groupby("clean_label").head(per_class).sort_index()
    _keep_given_labels(pool, pool.drop(chosen.index), num_classes, name)
    return chosen


def _keep_given_labels(pool: pd.DataFrame, left: pd.DataFrame, num_classes: int, name: str) -> None:
    """Refuse a draw that takes away the last training sample with some given label."""
    before, after = (_counts(rows[rows["split"] == TRAIN]["label"], num_classes) for rows in (pool, left))
    lost = np.flatnonzero((before > 0) & (after == 0))
    if len(lost):
        raise ConfigError(
            f"{name}: held out would be all {before[lost[0]]} training samples with label {lost[0]}",
            "write clean-K with a smaller K",
        )


def _available(table: pd.DataFrame, per_class: int | None, num_classes: int, name: str) -> int:
    """How many training samples of each given label the rule takes; all classes must have that many."""
    counts = _counts(table[table["split"] == TRAIN]["label"], num_classes)
    needed = per_class or max(int(counts.min()), 1)
    if counts.min() < needed:
        hint = f"write lowest-K with K at most {counts.min()}" if counts.min() > 0 else "choose clean-K"
        raise ConfigError(
            f"{name}: class {counts.argmin()} has {counts.min()} training samples; {needed} are needed",
            hint,
        )
    return needed


def _counts(labels: "pd.Series[int]", num_classes: int) -> Counts:
    # A column that has a null anywhere in the table comes as floats.
    return np.bincount(labels.to_numpy(dtype=np.int64), minlength=num_classes)
