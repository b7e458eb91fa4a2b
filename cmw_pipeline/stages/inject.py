"""Stage inject: a biased label table beside the clean one. Images are not copied."""

import numpy as np
import numpy.typing as npt
import pandas as pd

from cmw_pipeline.bias.compose import apply_bias
from cmw_pipeline.config.bias_names import parse_bias
from cmw_pipeline.config.datasets import FACTS
from cmw_pipeline.data.store import LABELS, read_raw
from cmw_pipeline.errors import ConfigError, IntegrityError
from cmw_pipeline.io.tables import write_table
from cmw_pipeline.stages.base import Job
from cmw_pipeline.types import LABEL_COLUMNS, TRAIN, UNUSED, Labels

Counts = npt.NDArray[np.int64]


def run(job: Job) -> None:
    """Write ``labels.parquet`` with the rows of the raw table, in their order.

    Only training rows are biased. Rows that a long tail drops become ``unused`` and keep their label.

    Raises:
        IntegrityError: the raw table is not the label table of this dataset.
        ConfigError: the long tail is so steep that a class loses all of its training samples.
    """
    _, table = read_raw(job.inputs["raw"].path)
    num_classes = FACTS[job.params["source"]].num_classes
    if table["label"].max() >= num_classes:
        found = f"label {table['label'].max()}; {job.params['source']} has {num_classes} classes"
        raise IntegrityError(f"{job.inputs['raw'].path / LABELS}: {found}")

    train = np.flatnonzero(table["split"] == TRAIN)
    clean: Labels = table["label"].to_numpy()
    steps = parse_bias(job.params["bias"])
    drawn, kept = apply_bias(clean[train], steps, job.params["source"], job.params["seed"])
    sizes = np.bincount(clean[train][kept], minlength=num_classes)
    _refuse_empty(job.artefact.name, np.bincount(clean[train], minlength=num_classes), sizes)

    labels, split = clean.copy(), table["split"].to_numpy(copy=True)
    labels[train] = drawn
    split[train[~kept]] = UNUSED
    biased = pd.DataFrame(
        {
            "index": table["index"],
            "label": labels,
            "clean_label": clean,
            "split": split,
            "is_flipped": labels != clean,
        }
    )
    write_table(job.out / LABELS, biased, LABEL_COLUMNS)
    flipped = int(biased["is_flipped"].sum())
    job.notes["class_counts"] = np.bincount(drawn[kept], minlength=num_classes).tolist()
    job.notes["class_sizes"] = sizes.tolist()
    job.notes["flipped"] = flipped
    job.notes["noise_rate"] = flipped / max(int(kept.sum()), 1)


def _refuse_empty(name: str, before: Counts, after: Counts) -> None:
    lost = np.flatnonzero((before > 0) & (after == 0))
    if len(lost):
        raise ConfigError(
            f"{name}: the long tail leaves none of the {before[lost[0]]} samples of class {lost[0]}",
            f"the largest class has {before.max()}; write an imbalance factor of at most that",
        )
