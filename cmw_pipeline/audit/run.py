"""An audit from samples to its result: one fit for the ranks, folds for the counts."""

import dataclasses
import functools
import hashlib
import json
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from cmw_pipeline import __version__
from cmw_pipeline.audit.features import View
from cmw_pipeline.audit.fit import Fit, Part, Rows, Samples, Way, fit, num_threads, probabilities
from cmw_pipeline.audit.scores import ConfidentJoint, Ids, TrajectoryMargin, confident_joint
from cmw_pipeline.audit.ways import method_options, recipe_for
from cmw_pipeline.config.audits import checked_folds
from cmw_pipeline.data.own import OwnData
from cmw_pipeline.data.own.divide import divide
from cmw_pipeline.errors import ConfigError
from cmw_pipeline.io.atomic import remove_tree
from cmw_pipeline.io.checkpoints import save_checkpoint
from cmw_pipeline.io.tables import write_array
from cmw_pipeline.runtime.logs import quietly
from cmw_pipeline.runtime.seeds import stream
from cmw_pipeline.runtime.signals import StopRequest
from cmw_pipeline.training.state import Observer
from cmw_pipeline.types import TEST, TRAIN, Floats

log = logging.getLogger(__name__)
_NEVER = -1
"""The fold of a sample that is always trained on."""


@dataclass(frozen=True)
class Asked:
    """What is asked of an audit. ``folds`` 0: the ranking alone.

    Raises:
        ConfigError: one fold, or fewer than none.
    """

    method: str = "cmw-net-sl"
    folds: int = 5
    seed: int = 0
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    def __post_init__(self) -> None:
        try:
            checked_folds(self.folds)
        except ValueError as error:
            raise ConfigError(str(error)) from None


@dataclass(frozen=True)
class Findings:
    """What the fits say of the training rows, each array in their order."""

    rows: Rows
    """(n,) the training rows of the dataset."""
    labels: Ids
    """(n,) given labels."""
    mean: Floats
    """(n, K) mean over epochs of the probabilities, in sample."""
    out_of_fold: Floats | None
    """(n, K); rows of nan where a sample was in no fold."""
    joint: ConfidentJoint | None
    weights: Floats
    main: Fit
    side: Path
    """Where the fits keep their checkpoints."""
    seconds: float


class _Progress:
    """Says at most every few seconds how far all fits are, and how long the rest may take."""

    def __init__(self, epochs: int) -> None:
        self.epochs, self.done, self.skipped = epochs, 0, 0
        self.began = self.said = time.monotonic()

    def skip(self, epochs: int) -> None:
        """So many were done before."""
        self.skipped += epochs

    def saying(self, title: str) -> Callable[[], None]:
        """What to call when an epoch of a fit of this title is over."""
        return functools.partial(self._tick, title)

    def _tick(self, title: str) -> None:
        self.done += 1
        now = time.monotonic()
        left = self.epochs - self.done - self.skipped
        if now - self.said > 5:
            self.said = now
            seconds = (now - self.began) / self.done * left
            done = self.epochs - left
            log.info("%s: %d of %d epochs; about %.0f s left", title, done, self.epochs, seconds)


class _Ranked(TrajectoryMargin):
    """The trajectory, with a clock."""

    def __init__(self, num_samples: int, num_classes: int, tick: Callable[[], None]) -> None:
        super().__init__(num_samples, num_classes)
        self.tick = tick

    def after_epoch(self, predictions: Callable[[], torch.Tensor]) -> None:
        """See all samples, and tell the time."""
        super().after_epoch(predictions)
        self.tick()


class _Clock(Observer):
    """Tells the time alone."""

    def __init__(self, tick: Callable[[], None]) -> None:
        super().__init__()
        self.tick = tick

    def after_epoch(self, predictions: Callable[[], torch.Tensor]) -> None:
        """Tell the time."""
        self.tick()


def find(
    data: OwnData, samples: Samples, view: View, asked: Asked, work: Path, stop: StopRequest
) -> tuple[Findings, Way]:
    """Make all fits, each of them once: what is in ``work`` is taken from there.

    Raises:
        Preempted: ``stop`` was set; the same call continues.
        NumericsError: training came to numbers that are not finite.
    """
    began = time.monotonic()
    rows, num_classes = data.where(TRAIN), len(data.class_names)
    recipe = recipe_for(view, samples, len(rows))
    options = method_options(asked.method, recipe.epochs, recipe.batch_size)
    way = Way(options, recipe, num_classes, asked.seed, asked.device)
    labels = data.labels
    trusted = trusted_rows(data)
    folds = _folds(data, rows, asked)
    side = work / f"fits-{_key(data, samples, view, way, asked)}"
    progress = _Progress(recipe.epochs * (1 + asked.folds))
    with quietly(), num_threads(_threads(samples)):
        margin = _Ranked(len(rows), num_classes, progress.saying("ranking"))
        part = Part("all", rows, labels, trusted, data.where(TEST))
        main = fit(samples, part, way, stop, side / "all", margin)
        save_checkpoint(side / "all", main.state.iteration + 1, *main.state.pack())
        found = [
            _fold(samples, folds == number, part, way, stop, side / f"fold-{number}", progress)
            for number in range(asked.folds)
        ]
    out_of_fold = _gathered(found, folds, num_classes) if found else None
    _, weights = main.losses_and_weights()
    vouched = data.rows["trusted"].to_numpy(dtype=bool)[rows]
    joint = None if out_of_fold is None else _joint(out_of_fold, labels[rows], vouched, asked.seed)
    seconds = time.monotonic() - began
    found_all = Findings(
        rows, labels[rows], margin.probabilities(), out_of_fold, joint, weights, main, side, seconds
    )
    return found_all, way


def classifier(
    data: OwnData, samples: Samples, found: Findings, way: Way, listed: Rows, stop: StopRequest
) -> Fit:
    """A fit by cross-entropy on the rows outside the list; the one that ranked where nothing is listed.

    Over the 48 audits of ``benchmarks/audit.py`` it is 1.7 points above the other in accuracy. A class all of
    whose rows are listed keeps them.

    Args:
        data: the dataset.
        samples: what is trained on.
        found: what the other fits said.
        way: how they were made.
        listed: rows of the dataset.
        stop: asks to stop.

    Raises:
        Preempted, NumericsError: see :func:`find`.
    """
    kept = np.setdiff1d(found.rows, listed)
    kept = np.union1d(kept, found.rows[~np.isin(found.labels, data.labels[kept])])
    if len(kept) == len(found.rows):
        return found.main
    options = method_options("erm", way.recipe.epochs, way.recipe.batch_size)
    part = Part("classifier", kept, data.labels, kept[:0], data.where(TEST))
    side = found.side / part.name
    with quietly(), num_threads(_threads(samples)):
        clock = _Clock(_Progress(way.recipe.epochs).saying(part.name))
        done = fit(samples, part, dataclasses.replace(way, options=options), stop, side, clock)
        save_checkpoint(side, done.state.iteration + 1, *done.state.pack())
    return done


def _threads(samples: Samples) -> int:
    """What a layer on vectors computes is too little to share out."""
    return 1 if samples.scale is not None else torch.get_num_threads()


def trusted_rows(data: OwnData) -> Rows:
    """The trusted training rows, if every class has one; else none, and the method picks a meta-set."""
    rows = data.where(TRAIN)
    trusted: Rows = rows[data.rows["trusted"].to_numpy(dtype=bool)[rows]]
    return trusted if len(np.unique(data.labels[trusted])) == len(data.class_names) else trusted[:0]


def _folds(data: OwnData, rows: Rows, asked: Asked) -> Ids:
    """(n,) the fold that each training row is held out of; -1 in classes that are not in every fold."""
    if not asked.folds:
        return np.full(len(rows), _NEVER)
    labels, unit = data.labels[rows], data.rows["unit"].to_numpy()[rows]
    part = divide(labels, unit, asked.folds, stream(asked.seed, "audit-folds"))
    in_part = np.zeros((len(data.class_names), asked.folds), dtype=np.bool_)
    in_part[labels, part] = True
    everywhere: npt.NDArray[np.bool_] = np.logical_and.reduce(in_part, axis=1)
    folds: Ids = np.where(everywhere[labels], part, _NEVER)
    return folds


def _fold(
    samples: Samples,
    held: npt.NDArray[np.bool_],
    whole: Part,
    way: Way,
    stop: StopRequest,
    side: Path,
    progress: _Progress,
) -> Floats:
    """(h, K) probabilities of the held-out rows."""
    file = side.with_suffix(".npy")
    if file.is_file():
        progress.skip(way.recipe.epochs)
    elif held.any():
        clock = _Clock(progress.saying(side.name))
        part = Part(side.name, whole.rows[~held], whole.labels, whole.trusted, whole.test[:0])
        done = fit(samples, part, way, stop, side, clock)
        write_array(file, probabilities(done.network, samples, whole.rows[held], way.recipe, way.device))
        remove_tree(side)
    else:
        return np.empty((0, way.num_classes))
    read: Floats = np.load(file, allow_pickle=False)
    return read


def _gathered(found: list[Floats], folds: Ids, num_classes: int) -> Floats:
    whole = np.full((len(folds), num_classes), np.nan)
    for number, part in enumerate(found):
        whole[folds == number] = part
    return whole


def _joint(
    out_of_fold: Floats, labels: Ids, trusted: npt.NDArray[np.bool_], seed: int
) -> ConfidentJoint | None:
    held = ~np.isnan(out_of_fold[:, 0])
    if not held.any():
        return None
    rng = stream(seed, "audit-bootstrap")
    return confident_joint(out_of_fold[held], labels[held], rng, trusted=trusted[held])


def _key(data: OwnData, samples: Samples, view: View, way: Way, asked: Asked) -> str:
    """Twelve digits that change with anything that the fits are made of."""
    options: dict[str, Any] = {
        "version": __version__,
        "method": way.options.model_dump(mode="json"),
        "recipe": way.recipe.model_dump(mode="json"),
        "seed": asked.seed,
        "folds": asked.folds,
        "shape": samples.values.shape,
        "view": (view.kind, view.side, view.weights),
    }
    key = hashlib.sha256(json.dumps(options, sort_keys=True).encode())
    for column in ("content", "split"):
        key.update("\n".join(data.rows[column]).encode())
    for column in ("label", "trusted", "unit"):
        key.update(np.ascontiguousarray(data.rows[column].to_numpy()).tobytes())
    return key.hexdigest()[:12]
