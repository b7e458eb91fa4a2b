"""Stage inject: a biased label table beside the clean one. Images are not copied."""

import functools
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from cmw_pipeline.bias.compose import Evidence, apply_bias, factor, hide_labels
from cmw_pipeline.config.bias_names import BiasStep, parse_bias
from cmw_pipeline.config.datasets import FACTS
from cmw_pipeline.config.label_files import label_file
from cmw_pipeline.config.plan import Artefact
from cmw_pipeline.data.label_files import label_digest, read_given, read_label_file
from cmw_pipeline.data.store import LABELS, read_labels
from cmw_pipeline.errors import ConfigError, IntegrityError
from cmw_pipeline.io.manifests import open_planned
from cmw_pipeline.io.tables import write_array, write_table
from cmw_pipeline.stages import download
from cmw_pipeline.stages.base import Job, make
from cmw_pipeline.types import LABEL_COLUMNS, TRAIN, UNUSED, Candidates, Labels

Counts = npt.NDArray[np.int64]
Posterior = npt.NDArray[np.floating]
POSTERIOR, CANDIDATES = "posterior.npy", "candidates.npy"
_SUM_TOLERANCE = 0.02
"""Of a row of probabilities stored with 11 bits each."""


def run(job: Job) -> None:
    """Write ``labels.parquet`` with the rows of the raw table, in their order.

    Only training rows are biased. Rows that a long tail drops, and those beyond the end of a published
    label file, become ``unused`` and keep their label. Where labels are hidden in candidate sets or taken
    away, ``label`` is one candidate, drawn uniformly, and ``candidates.npy`` (rows, K) has the sets; those of
    rows that are not trained on are empty.

    Of a dataset of image files no clean label of a training sample is known.

    Reads the input ``labels`` (a label file's artefact) or ``teacher`` (an artefact that holds
    ``posterior.npy``, one row for each training row of the raw table, in its order) where the bias needs it.

    Raises:
        IntegrityError: the raw table is not the label table of this dataset; labels or posterior are of
            other samples.
        ConfigError: the long tail is so steep that a class loses all of its training samples; the teacher
            cannot give the wanted level.
    """
    table = read_labels(job.inputs["raw"].path)
    num_classes = FACTS[job.params["source"]].num_classes
    if table["label"].max() >= num_classes:
        found = f"label {table['label'].max()}; {job.params['source']} has {num_classes} classes"
        raise IntegrityError(f"{job.inputs['raw'].path / LABELS}: {found}")

    train = np.flatnonzero(table["split"] == TRAIN)
    clean: Labels = table["label"].to_numpy()
    steps = parse_bias(job.params["bias"])
    evidence = _evidence(job, steps, clean[train])
    drawn, kept = apply_bias(clean[train], steps, job.params["source"], job.params["seed"], evidence)
    hidden = hide_labels(drawn[kept], steps, job.params["source"], job.params["seed"])
    if hidden is not None:
        shown, candidates, seen = hidden
        kept[kept] = seen
        drawn[kept] = shown[seen]
        _write_candidates(job, candidates[seen], train[kept], len(table))
    sizes = np.bincount(clean[train][kept], minlength=num_classes)
    _refuse_empty(job.artefact.name, np.bincount(clean[train], minlength=num_classes), sizes)

    labels, split = clean.copy(), table["split"].to_numpy(copy=True)
    labels[train] = drawn
    split[train[~kept]] = UNUSED
    known = np.full(len(clean), FACTS[job.params["source"]].files is None) | (table["split"] != TRAIN)
    columns = {
        "index": table["index"],
        "label": labels,
        "clean_label": pd.Series(clean, dtype="Int16").where(known),
        "split": split,
        "is_flipped": labels != clean,
    }
    write_table(job.out / LABELS, pd.DataFrame(columns), LABEL_COLUMNS)
    flipped = int((labels != clean).sum())
    job.notes["class_counts"] = np.bincount(drawn[kept], minlength=num_classes).tolist()
    job.notes["class_sizes"] = sizes.tolist()
    job.notes["flipped"] = flipped
    job.notes["noise_rate"] = flipped / max(int(kept.sum()), 1)
    for step in steps:
        if step.reads == "teacher" and evidence.posterior is not None:
            posterior = evidence.posterior[kept]
            job.notes["factor"] = factor(step, job.params["source"], posterior, clean[train][kept])


def read_candidates(folder: Path, rows: npt.NDArray[np.int64]) -> Candidates | None:
    """(N, K) candidates of rows of a biased table; None where the labels are not hidden."""
    file = folder / CANDIDATES
    return np.load(file, mmap_mode="r", allow_pickle=False)[rows] if file.is_file() else None


def _write_candidates(job: Job, candidates: Candidates, rows: npt.NDArray[np.int64], total: int) -> None:
    table = np.zeros((total, candidates.shape[1]), dtype=np.bool_)
    table[rows] = candidates
    write_array(job.out / CANDIDATES, table)
    job.notes["candidates"] = float(candidates.sum(axis=1).mean())


def place_labels(artefact: Artefact, file: Path, root: Path, *, accept_unverified: bool = False) -> None:
    """Use a file at hand as the label file that a bias names: ``cmw inject NAME --labels FILE``.

    Args:
        artefact: the biased table that is planned.
        file: the labels, in any format of :func:`~cmw_pipeline.data.label_files.read_label_file`.
        root: the project folder.
        accept_unverified: take labels that are not the published ones.

    Raises:
        ConfigError: the bias names no label file.
        IntegrityError: the labels are not the ones that it names, or others are there already.
    """
    source = artefact.params["source"]
    named = artefact.inputs.get("labels")
    if named is None:
        labels, _ = read_label_file(file, FACTS[source].num_classes)
        dataset = artefact.name.partition("/")[0]
        raise ConfigError(
            f"{artefact.name}: this bias reads no label file",
            f"write {dataset}/file-{label_digest(labels)[:12]} for the labels of {file}",
        )
    if make(named, functools.partial(download.run, local=file, accept_unverified=accept_unverified), root):
        return
    facts = label_file(source, parse_bias(named.params["labels"])[0])
    labels, _ = read_label_file(file, FACTS[source].num_classes, facts.entry if facts else None)
    there = open_planned(named, root)
    if there.manifest["notes"]["labels_sha256"] != label_digest(labels):
        raise IntegrityError(f"{file}: not the labels in {there.path}", "remove that folder to use these")


def _evidence(job: Job, steps: tuple[BiasStep, ...], clean: Labels) -> Evidence:
    """What the steps need besides the clean labels of the N training samples."""
    source = job.params["source"]
    num_classes = FACTS[source].num_classes
    for step in steps:
        if step.reads == "labels":
            facts = label_file(source, step)
            level = facts.level if facts else None
            return Evidence(given=read_given(job.inputs["labels"].path, clean, num_classes, level=level))
        if step.reads == "teacher":
            file = job.inputs["teacher"].path / POSTERIOR
            return Evidence(posterior=_read_posterior(file, (len(clean), num_classes)))
    return Evidence()


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


def _refuse_empty(name: str, before: Counts, after: Counts) -> None:
    lost = np.flatnonzero((before > 0) & (after == 0))
    if len(lost):
        raise ConfigError(
            f"{name}: the long tail leaves none of the {before[lost[0]]} samples of class {lost[0]}",
            f"the largest class has {before.max()}; write an imbalance factor of at most that",
        )
