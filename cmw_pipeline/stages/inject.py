"""Stage inject: a biased label table beside the clean one. Images are not copied."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cmw_pipeline.bias.compose import Biased as Bent
from cmw_pipeline.bias.compose import apply_bias
from cmw_pipeline.config.contracts import Biased, BiasRequest, Raw, Run
from cmw_pipeline.config.datasets import FACTS, DatasetFacts
from cmw_pipeline.data.label_files import read_given
from cmw_pipeline.data.raw import read_labels, read_marks
from cmw_pipeline.errors import ConfigError, IntegrityError
from cmw_pipeline.io.tables import Columns, write_array, write_columns
from cmw_pipeline.stages.base import Job
from cmw_pipeline.types import TRAIN, UNUSED, Labels

Counts = npt.NDArray[np.int64]
Posterior = npt.NDArray[np.floating]
_SUM_TOLERANCE = 0.02
"""Of a row of probabilities stored with 11 bits each."""


def run(job: Job[BiasRequest]) -> None:
    """Write ``labels.parquet`` with the rows of the raw table, in their order.

    Only training rows are biased. Rows that a long tail drops, and those beyond the end of a published
    label file, become ``unused`` and keep their label. Where labels are hidden in candidate sets or taken
    away, ``label`` is one candidate, drawn uniformly, and ``candidates.npy`` (rows, K) has the sets; those of
    rows that are not trained on are empty.

    Of a dataset of image files, and of one's own data, no clean label of a training sample is known but those
    that are marked.

    Reads the input ``labels`` (a label file's artefact) or ``teacher`` (an artefact that holds
    ``posterior.npy``, one row for each training row of the raw table, in its order) where the bias needs it.

    Raises:
        IntegrityError: the raw table is not the label table of this dataset; labels or posterior are of
            other samples.
        ConfigError: the long tail is so steep that a class loses all of its training samples; the teacher
            cannot give the wanted level.
    """
    facts = FACTS[job.request.source]
    table = _raw_labels(job.inputs["raw"].path, facts)
    train = np.flatnonzero(table["split"] == TRAIN)
    clean: Labels = table["label"][train]
    biased = apply_bias(
        clean,
        job.request.bias,
        facts,
        job.request.seed,
        given=_given(job, facts, clean),
        posterior=_posterior(job, (len(clean), facts.num_classes)),
    )
    _refuse_empty(job.artefact.name, np.bincount(clean), clean[biased.kept])
    right = _right_labels(job.inputs["raw"].path, table, facts)
    _write_table(job.out, table, train, biased, right)
    if biased.candidates is not None:
        _write_candidates(job, biased, train, len(table["index"]))
    job.notes.update(_measured(biased, right[train], facts.num_classes))


def _measured(biased: Bent, clean: "np.ma.MaskedArray[Any, Any]", num_classes: int) -> dict[str, Any]:
    """What came of the bias: sizes of the classes by given and by clean label, wrong labels, the factor.

    Where the clean label of some is not known, no rate of wrong labels is.
    """
    given, right = biased.labels[biased.kept], clean.data[biased.kept]
    flipped = int((given != right).sum())
    notes: dict[str, Any] = {
        "class_counts": np.bincount(given, minlength=num_classes).tolist(),
        "class_sizes": np.bincount(right, minlength=num_classes).tolist(),
        "flipped": flipped,
        "noise_rate": flipped / max(len(given), 1),
    }
    if unknown := int(np.ma.getmaskarray(clean)[biased.kept].sum()):
        notes |= {"noise_rate": None, "clean_label_unknown": unknown}
    return notes if biased.factor is None else notes | {"factor": biased.factor}


def _raw_labels(path: Path, facts: DatasetFacts) -> Columns:
    table = read_labels(path)
    if table["label"].max() >= facts.num_classes:
        found = f"label {table['label'].max()}; {facts.name} has {facts.num_classes} classes"
        raise IntegrityError(f"{path / Raw.LABELS}: {found}")
    return table


def _right_labels(path: Path, table: Columns, facts: DatasetFacts) -> "np.ma.MaskedArray[Any, Any]":
    """(N,) clean labels; masked, and the given ones, where nobody knows them."""
    labels, train, marks = table["label"], table["split"] == TRAIN, read_marks(path)
    if marks is None:
        return np.ma.MaskedArray(labels, mask=train & (facts.files is not None))
    said = np.ma.asanyarray(marks["clean_label"])
    unsaid = np.ma.getmaskarray(said)
    return np.ma.MaskedArray(np.where(unsaid, labels, said.data), mask=train & unsaid & ~marks["trusted"])


def _write_table(
    out: Path,
    table: Columns,
    train: npt.NDArray[np.int64],
    biased: Bent,
    right: "np.ma.MaskedArray[Any, Any]",
) -> None:
    """The rows of the raw table with the labels of the training samples, which stand in rows ``train``."""
    labels, split = table["label"].copy(), table["split"].copy()
    labels[train] = biased.labels
    split[train[~biased.kept]] = UNUSED
    columns = {
        "index": table["index"],
        "label": labels,
        "clean_label": right,
        "split": split,
        "is_flipped": labels != right.data,
    }
    write_columns(out, Biased.LABELS, columns)


def _write_candidates(job: Job[BiasRequest], biased: Bent, train: npt.NDArray[np.int64], total: int) -> None:
    assert biased.candidates is not None
    table = np.zeros((total, biased.candidates.shape[1]), dtype=np.bool_)
    table[train] = biased.candidates
    write_array(job.out / Biased.CANDIDATES, table)
    job.notes["candidates"] = float(biased.candidates[biased.kept].sum(axis=1).mean())


def _given(job: Job[BiasRequest], facts: DatasetFacts, clean: Labels) -> Labels | None:
    """(M,) the labels of the file that a step names, if one does."""
    for step in job.request.bias:
        if step.reads == "labels":
            published = facts.label_file(step)
            level, file = published.level if published else None, job.inputs["labels"]
            told = published is None and not file.verified
            return read_given(file.path, clean, facts.num_classes, level=level, as_they_are=told)
    return None


def _posterior(job: Job[BiasRequest], shape: tuple[int, int]) -> Posterior | None:
    """(N, K) what the teacher says of the training samples, if a step asks it."""
    if not any(step.reads == "teacher" for step in job.request.bias):
        return None
    return _read_posterior(job.inputs["teacher"].path / Run.POSTERIOR, shape)


def _read_posterior(file: Path, shape: tuple[int, int]) -> Posterior:
    """(N, K) probabilities, mapped from the file.

    Raises:
        IntegrityError: no such array, of another shape or type, or a row that is no distribution.
    """
    try:
        posterior: Posterior = np.load(file, mmap_mode="r", allow_pickle=False)
    except (OSError, EOFError, ValueError) as error:
        raise IntegrityError(f"{file}: not an array on disk: {error}") from None
    if posterior.dtype.kind != "f" or posterior.shape != shape:
        found = f"{posterior.dtype} of shape {posterior.shape}"
        raise IntegrityError(
            f"{file}: {found}; expected floats of shape {shape}, training samples by classes"
        )
    total = posterior.sum(axis=1, dtype=np.float64)
    # Written so that a missing value is wrong too.
    wrong = np.flatnonzero(~((posterior >= 0).all(axis=1) & (np.abs(total - 1) <= _SUM_TOLERANCE)))
    if wrong.size:
        raise IntegrityError(f"{file}: row {wrong[0]}: not probabilities; they sum to {total[wrong[0]]:g}")
    return posterior


def _refuse_empty(name: str, before: Counts, kept: Labels) -> None:
    after = np.bincount(kept, minlength=len(before))
    lost = np.flatnonzero((before > 0) & (after == 0))
    if len(lost):
        raise ConfigError(
            f"{name}: the long tail leaves none of the {before[lost[0]]} samples of class {lost[0]}",
            f"the largest class has {before.max()}; write an imbalance factor of at most that",
        )
