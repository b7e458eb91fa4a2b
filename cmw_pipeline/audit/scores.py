"""Which labels look wrong, how many are, and how sure one can be: functions of probabilities alone."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from scipy.special import betaincinv
from torch import nn

from cmw_pipeline.errors import ConfigError
from cmw_pipeline.training.state import Observer
from cmw_pipeline.types import Floats

Ids = npt.NDArray[np.integer]
"""(N,) class ids."""
PRIOR = 0.5
"""How much of the log class frequency is taken off; chosen on seed 1 of digits, confirmed on others."""
_FLOOR = 1e-6
_DRAWS = 500


class TrajectoryMargin(Observer):
    """Tells wrong labels by what a network says of each sample in the course of training.

    The margin is that of log(mean over epochs of p + 1e-6) - 0.5 log(class frequency): the best other class
    minus the given label. A network that learns robustly fits the right labels first, so its mean over the
    epochs speaks against a wrong one (as the area under the margin of Pleiss et al., NeurIPS 2020); without
    the class frequency, samples of rare classes would all look wrong.

    Fits any training loop: call :meth:`update` with the logits of every batch, or of a pass over the training
    set after each epoch, and :meth:`scores` at the end. Its buffers are what a checkpoint has to keep.

    >>> margin = TrajectoryMargin(num_samples=3, num_classes=2)
    >>> for _ in range(5):
    ...     margin.update(torch.arange(3), torch.tensor([[4.0, 0.0], [4.0, 0.0], [0.0, 4.0]]))
    >>> (margin.scores(np.array([0, 1, 1])) > 0).tolist()
    [False, True, False]
    """

    def __init__(self, num_samples: int, num_classes: int) -> None:
        super().__init__()
        self.total: torch.Tensor = nn.Buffer(torch.zeros(num_samples, num_classes))
        self.updates: torch.Tensor = nn.Buffer(torch.zeros(num_samples, dtype=torch.int64))

    def update(self, rows: torch.Tensor, logits: torch.Tensor) -> None:
        """See (B, K) logits of the samples ``rows``, (B,) places in 0..N-1, each at most once in a call.

        Raises:
            ConfigError: logits of another shape; on a CPU, also where they are not finite.
        """
        expected = (len(rows), self.total.shape[1])
        if logits.shape != expected:
            raise ConfigError(
                f"logits of shape {tuple(logits.shape)} for {len(rows)} rows; expected {expected}"
            )
        if logits.device.type == "cpu" and not logits.detach().isfinite().all():
            raise ConfigError("logits that are not finite")
        rows = rows.detach().to(self.total.device)
        self.total[rows] += logits.detach().float().softmax(dim=1).to(self.total.device)
        self.updates[rows] += 1

    def after_epoch(self, predictions: Callable[[], torch.Tensor]) -> None:
        """See all samples once."""
        self.update(torch.arange(len(self.updates)), predictions())

    def probabilities(self) -> Floats:
        """(N, K) mean over the updates of each sample's class probabilities.

        Raises:
            ConfigError: a sample has never been seen.
        """
        unseen = int((self.updates == 0).sum())
        if unseen:
            raise ConfigError(f"{unseen} of {len(self.updates)} samples have never been given to update()")
        mean: Floats = (self.total / self.updates[:, None]).double().cpu().numpy()
        return mean

    def scores(self, labels: Ids) -> Floats:
        """(N,) margin of each sample's label, (N,) ids; above 0: another class fits better."""
        return prior_margin(self.probabilities(), labels).margin


@dataclass(frozen=True)
class Margin:
    """What probabilities say of the given labels."""

    margin: Floats
    """(N,) best other class minus given label, in log probability; -inf with a single class."""
    suggested: npt.NDArray[np.int64]
    """(N,) the best other class where the margin is above 0, else the given label."""


def prior_margin(probabilities: Floats, labels: Ids, prior: float = PRIOR) -> Margin:
    """The margin of log(p + 1e-6) - ``prior`` log(class frequency).

    Args:
        probabilities: (N, K), of one pass or a mean over epochs.
        labels: (N,) the given labels, by which the frequencies are counted. A class that no sample has is
            never suggested.
        prior: weight of the log frequency.
    """
    rows = np.arange(len(labels))
    frequency = class_counts(labels, probabilities.shape[1]) / len(labels)
    with np.errstate(divide="ignore"):
        adjusted = np.log(probabilities + _FLOOR) - prior * np.log(frequency)
    adjusted[:, frequency == 0] = -np.inf
    own = adjusted[rows, labels]
    adjusted[rows, labels] = -np.inf
    best = adjusted.argmax(axis=1)
    margin = adjusted[rows, best] - own
    return Margin(margin, np.where(margin > 0, best, labels).astype(np.int64))


def class_counts(labels: Ids, num_classes: int) -> npt.NDArray[np.int64]:
    """(K,) samples of each class."""
    return np.bincount(labels, minlength=num_classes)


@dataclass(frozen=True)
class Rate:
    """An estimate and its 95% interval, a value for each class or one alone."""

    value: Floats
    low: Floats
    high: Floats


@dataclass(frozen=True)
class ConfidentJoint:
    """How given and true labels go together, as an estimate (Northcutt et al., JAIR 2021)."""

    joint: Floats
    """(K, K) share of the samples with the given label i and the true label j; sums to 1."""
    num_wrong: int
    """Samples whose given label is wrong."""
    noise: Rate
    """() share of wrong labels."""
    noise_in: Rate
    """(K,) share of the samples labelled i that are of another class."""
    noise_out: Rate
    """(K,) share of the samples of class j that carry another label."""

    @property
    def transition(self) -> Floats:
        """(K, K) share of the samples of class j (row) that are labelled i (column); 0 of an empty class."""
        return _shares(self.joint.T)


def confident_joint(
    probabilities: Floats,
    labels: Ids,
    rng: np.random.Generator,
    draws: int = _DRAWS,
    trusted: npt.NDArray[np.bool_] | None = None,
) -> ConfidentJoint:
    """Estimate the joint of given and true labels.

    A sample counts as of class j where p_j is the largest among the classes that reach their threshold:
    the mean of p_j over the samples that are predicted as j. The counts of each given label are scaled to
    its frequency. Trusted labels count as right, and stand for themselves alone. (Northcutt et al. take
    the mean over the samples *labelled* j. Wrong labels pull that down, so where errors go one way, right
    labels pass and wrong ones do not; chosen on seed 1 of the benchmark.)

    Args:
        probabilities: (N, K), of networks that have not seen the sample (out of fold).
        labels: (N,) given labels.
        rng: draws the bootstrap, which repeats the counting with the thresholds as they are.
        draws: of the bootstrap.
        trusted: (N,) True where a person vouches for the label; None: nowhere.
    """
    num_classes = probabilities.shape[1]
    none, vouched, kinds = num_classes, num_classes + 1, num_classes + 2
    sure = _confident_class(probabilities, none)
    if trusted is not None:
        sure = np.where(trusted, vouched, sure)
    # One number for each pair (given, confident class or none); a resample is a multinomial draw of pairs.
    pairs, seen = np.unique(labels.astype(np.int64) * kinds + sure, return_counts=True)
    counting = _Counting(pairs // kinds, pairs % kinds, num_classes)
    again = [
        counting.rates(sample) for sample in rng.multinomial(len(labels), seen / len(labels), size=draws)
    ]
    noise, noise_in, noise_out = (
        _interval(value, [rates[part] for rates in again]) for part, value in enumerate(counting.rates(seen))
    )
    num_wrong = round(float(noise.value) * len(labels))
    return ConfidentJoint(counting.joint(seen), num_wrong, noise, noise_in, noise_out)


def _confident_class(probabilities: Floats, none: int) -> Ids:
    """(N,) the class that a sample is confidently of; ``none`` where it is of none."""
    predicted, classes = probabilities.argmax(axis=1), probabilities.shape[1]
    counts = class_counts(predicted, classes)
    sums = np.bincount(predicted, probabilities.max(axis=1), classes)
    threshold = np.where(counts > 0, sums / np.maximum(counts, 1), np.inf)
    reached = np.where(probabilities >= threshold, probabilities, -1.0)
    return np.where(reached.max(axis=1) >= 0, reached.argmax(axis=1), none)


@dataclass(frozen=True)
class _Counting:
    """Which given label goes with which confident class in each of the pairs that occur."""

    given: Ids
    sure: Ids
    num_classes: int
    """A confident class of this number is none; of the next, the label is trusted."""

    def joint(self, seen: npt.NDArray[np.int64]) -> Floats:
        """(K, K) the calibrated joint, of the number of samples of each pair."""
        joint = np.zeros((self.num_classes, self.num_classes))
        np.add.at(joint, (self.given, self._class), self._mass(seen))
        return joint

    def rates(self, seen: npt.NDArray[np.int64]) -> tuple[Floats, Floats, Floats]:
        """Noise of all, into each given label, and out of each true class."""
        mass = self._mass(seen)
        right = self._by_class(self.given, mass * (self.given == self._class))
        given, true = self._by_class(self.given, mass), self._by_class(self._class, mass)
        return np.asarray(1 - right.sum()), _wrong_share(right, given), _wrong_share(right, true)

    @property
    def _class(self) -> Ids:
        """A pair's true class; of one without a confident class, and of trusted labels, the given one."""
        return np.where(self.sure < self.num_classes, self.sure, self.given)

    def _by_class(self, classes: Ids, values: Floats) -> Floats:
        """(K,) sum of the values of each class."""
        return np.bincount(classes, values, self.num_classes).astype(np.float64)

    def _mass(self, seen: npt.NDArray[np.int64]) -> Floats:
        """(P,) share of all samples that a pair stands for.

        Confident pairs stand for all samples of their given label that are not trusted; a label without one
        keeps its samples.
        """
        sure = np.where(self.sure < self.num_classes, seen, 0)
        trusted = self.sure > self.num_classes
        whole = np.bincount(self.given, np.where(trusted, 0, seen), self.num_classes)[self.given]
        confident = np.bincount(self.given, sure, self.num_classes)[self.given]
        scaled = sure * whole / np.where(confident > 0, confident, 1)
        mass: Floats = np.where(trusted | (confident == 0), seen, scaled) / seen.sum()
        return mass


def _wrong_share(right: Floats, whole: Floats) -> Floats:
    return np.where(whole > 0, 1 - right / np.where(whole > 0, whole, 1), 0.0)


def _shares(table: Floats) -> Floats:
    total = table.sum(axis=1, keepdims=True)
    return table / np.where(total > 0, total, 1)


def _interval(value: Floats, again: list[Floats]) -> Rate:
    low, high = np.quantile(np.stack(again), [0.025, 0.975], axis=0)
    return Rate(value, np.minimum(low, value), np.maximum(high, value))


def list_length(margin: Floats, num_wrong: int | None) -> int:
    """How many samples the list of suspects has: those above 0, but no more than the joint counts wrong."""
    above = int((margin > 0).sum())
    return above if num_wrong is None else min(above, num_wrong)


def certified_precision(wrong: int, reviewed: int, confidence: float = 0.95) -> float:
    """A bound below which the precision of a list does not lie, at this confidence (Clopper & Pearson, 1934).

    Args:
        wrong: reviewed suspects whose label is wrong indeed.
        reviewed: all that were drawn at random from the list, of a number fixed before the review.
        confidence: one-sided.

    >>> round(certified_precision(59, 59), 3)
    0.95
    """
    if not 0 <= wrong <= reviewed or reviewed == 0:
        raise ConfigError(f"{wrong} of {reviewed} reviewed suspects are wrong: no such review")
    return float(betaincinv(wrong, reviewed - wrong + 1, 1 - confidence)) if wrong else 0.0
