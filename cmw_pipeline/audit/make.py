"""The whole of an audit: of a dataset on disk, or of arrays in a program."""

import importlib.metadata
import shlex
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from cmw_pipeline import __version__
from cmw_pipeline.audit.features import View, choose_view, make_samples, read_pictures, resized
from cmw_pipeline.audit.fit import Fit, Samples, Way
from cmw_pipeline.audit.model import FOLDER, Classifier, save_classifier
from cmw_pipeline.audit.result import Audit, Picture
from cmw_pipeline.audit.review import Review
from cmw_pipeline.audit.run import Asked, Findings, classifier, find, trusted_rows
from cmw_pipeline.audit.scores import class_counts
from cmw_pipeline.audit.tables import (
    class_table,
    conflict_table,
    curve_table,
    known_notes,
    known_table,
    suspect_table,
    verdict,
)
from cmw_pipeline.data.own import OwnData, own_arrays
from cmw_pipeline.io.atomic import remove_tree
from cmw_pipeline.meta.weighting import WeightingFunction, save_weighting
from cmw_pipeline.methods.weightings.weight_net import NetWeighting
from cmw_pipeline.runtime.signals import StopRequest
from cmw_pipeline.types import TEST

WORK, WEIGHTING = ".work", "weighting"
_THUMBNAIL = 96


def audit(
    samples: npt.NDArray[Any],
    labels: Sequence[Any] | npt.NDArray[Any],
    *,
    trusted: npt.NDArray[np.bool_] | None = None,
    groups: Sequence[Any] | None = None,
    split: Sequence[str] | None = None,
    method: str = "cmw-net-sl",
    backbone: str = "auto",
    folds: int = 5,
    seed: int = 0,
    out: str | Path | None = None,
) -> Audit:
    """Find the labels that look wrong.

    >>> found = audit(embeddings, labels)                             # doctest: +SKIP
    >>> found.listed[["id", "given", "suggested"]], found.verdict     # doctest: +SKIP

    Args:
        samples: (N, D) embeddings or tabular features, or (N, H, W, C) uint8 pictures.
        labels: (N,) names or numbers, right or wrong.
        trusted: (N,) True where the label is known to be right; with one of every class they are what the
            weighting is learned on.
        groups: (N,) what must not be divided among folds: the patient, the video, the author.
        split: (N,) train or test; None: all are trained on.
        method: cmw-net-sl, cmw-net, elr or erm.
        backbone: for pictures: auto, none, or a file of EfficientNet-Lite0's weights.
        folds: 0 for the ranking alone, without estimates of how many labels are wrong.
        seed: of everything random.
        out: a folder for the tables and the model; None: nothing is kept.

    Raises:
        ConfigError: labels and samples do not fit each other, or there are not two classes.
        IntegrityError: a feature is not finite; names the rows.
    """
    data = own_arrays(samples, labels, trusted=trusted, groups=groups, split=split)
    asked = Asked(method, folds, seed, torch.device("cpu"))
    with tempfile.TemporaryDirectory() as work:
        folder = None if out is None else Path(out)
        return audit_data(data, asked, folder, Path(work), StopRequest(), backbone)


def audit_data(
    data: OwnData,
    asked: Asked,
    out: Path | None,
    work: Path,
    stop: StopRequest,
    backbone: str = "auto",
    workers: int = 0,
    review: Review | None = None,
    name: str = "arrays",
    again: Sequence[str] = (),
) -> Audit:
    """Audit a dataset, and write what was found into ``out``.

    Args:
        data: the dataset; reviewed labels have taken their places.
        asked: the method, the folds, the seed.
        out: a folder; None: nothing is written.
        work: what is kept there makes the same call continue.
        stop: asks to stop.
        backbone: auto, none, or a file of weights.
        workers: processes that decode pictures.
        review: what a person said, for the certificate.
        name: what the report calls the dataset.
        again: options that the next command has to repeat, besides those of ``asked`` and ``backbone``.

    Raises:
        Preempted: ``stop`` was set; the same call continues.
        ConfigError, IntegrityError, SystemFault: see :func:`make_samples`.
        NumericsError: training came to numbers that are not finite.
    """
    view = choose_view(data, backbone)
    stop.at_once = True  # what has been seen of pictures is kept block by block
    samples = make_samples(data, view, work, asked.device, workers)
    stop.at_once = False
    found, way = find(data, samples, view, asked, work, stop)
    function = learned_function(found.main)
    trusted = data.rows["trusted"].to_numpy(dtype=bool)[found.rows]
    suspects = suspect_table(data, found, trusted, asked.seed)
    listed = suspects["id"].to_numpy()[suspects["in_list"]]
    last = classifier(data, samples, found, way, listed, stop)
    about = _notes(data, found, way, view, asked) | {
        "name": name,
        "options": shlex.join([*_options(asked, backbone), *again]),
        "out": None if out is None else str(out),
        "classifier": "all rows" if last is found.main else "rows outside the list",
        "test_accuracy": last.state.records[-1]["scores"].get(TEST, {}).get("ema_accuracy"),
    }
    result = _result(data, found, suspects, about, function, review)
    if out is not None:
        none = Samples(samples.values[:0], samples.mean, samples.std, samples.scale)
        network = last.network.eval()
        model = Classifier(network, data.class_names, view, way.recipe, none, data.features)
        _write_models(out, model, function)
        result.write(out)
    return result


def _write_models(out: Path, model: Classifier, function: WeightingFunction | None) -> None:
    """The classifier, and the weighting function where one was learned."""
    save_classifier(out / FOLDER, model)
    remove_tree(out / WEIGHTING)  # of an earlier audit
    if function is not None:
        groups, normalisation = function.groups.cpu().numpy(), function.card["normalisation"]
        save_weighting(out / WEIGHTING, function.net, groups, {"run": "audit"}, normalisation)


def _options(asked: Asked, backbone: str) -> list[str]:
    """How the command asks for the same."""
    words, usual = [] if asked.folds else ["--fast"], Asked()
    words += [] if backbone == "auto" else ["--backbone", backbone]
    words += [] if asked.method == usual.method else ["--method", asked.method]
    return words + ([] if asked.seed == usual.seed else ["--seed", str(asked.seed)])


def learned_function(main: Fit) -> WeightingFunction | None:
    """What the fit has learned of losses; None by a method that learns no weights."""
    weighting = main.state.method.weighting
    if not isinstance(weighting, NetWeighting):
        return None
    card = {"normalisation": weighting.normalisation}
    return WeightingFunction(weighting.net.cpu(), weighting.groups.cpu().numpy(), card)


def _result(
    data: OwnData,
    found: Findings,
    suspects: pd.DataFrame,
    about: dict[str, Any],
    function: WeightingFunction | None,
    review: Review | None,
) -> Audit:
    zeros = np.zeros(len(data.class_names))
    groups = zeros if function is None else function.groups.cpu().numpy()
    classes = class_table(data, found, suspects, groups)
    conflicts, known = conflict_table(data), known_table(data, found, suspects)
    listed = int(suspects["in_list"].sum())
    notes = about | {
        "listed": listed,
        "known": known_notes(known, listed),
        "conflicts": int(conflicts["content"].nunique()),
        "certificate": None if review is None else review.certificate(),
        "review_unseen": None if review is None else review.unseen,
    }
    return Audit(
        suspects=suspects,
        classes=classes,
        transition=None if found.joint is None else found.joint.transition,
        curves=curve_table(function),
        conflicts=conflicts,
        verdict=verdict(found, suspects, classes, int(data.rows["trusted"].to_numpy(bool)[found.rows].sum())),
        notes=notes,
        picture=picture_of(data),
        known=known,
        reviewed=None if review is None else review.marked,
    )


def _notes(data: OwnData, found: Findings, way: Way, view: View, asked: Asked) -> dict[str, Any]:
    """What was chosen and counted."""
    joint = found.joint
    counts = class_counts(found.labels, len(data.class_names))
    noise = None
    if joint is not None:
        noise = {part: float(getattr(joint.noise, part)) for part in ("value", "low", "high")}
    return {
        "rows": len(data.rows),
        "train": len(found.rows),
        "test": len(data.where(TEST)),
        "left_out": data.left_out,
        "num_classes": len(data.class_names),
        "smallest_class": int(counts[counts > 0].min()),
        "trusted": int(data.rows["trusted"].sum()),
        "meta_set": "trusted" if len(trusted_rows(data)) else "self-selected",
        "noise": noise,
        "num_wrong": None if joint is None else joint.num_wrong,
        "samples": view.kind,
        "backbone": "efficientnet-lite0" if view.kind == "frozen" else None,
        "backbone_sha256": view.weights or None,
        "network": way.recipe.network.name,
        "method": asked.method,
        "epochs": way.recipe.epochs,
        "batch_size": way.recipe.batch_size,
        "folds": asked.folds,
        "seed": asked.seed,
        "seconds": round(found.seconds, 1),
        "device": str(asked.device),
        "versions": {name: importlib.metadata.version(name) for name in ("torch", "numpy", "pandas")}
        | {"cmw-pipeline": __version__},
        "root": None if data.root is None else str(data.root),
    }


def picture_of(data: OwnData) -> Callable[[int], Picture] | None:
    """The picture of a row, its shorter side 96 pixels at least where it is a file; None of vectors."""
    images, root = data.images, data.root
    if images is not None:
        return lambda row: resized(images[row : row + 1], min(_THUMBNAIL, 4 * images.shape[1]))[0]
    if root is None:
        return None
    paths: pd.Series[str] = data.rows["path"]
    return lambda row: next(read_pictures([root / paths.iloc[row]], _THUMBNAIL))[0]
