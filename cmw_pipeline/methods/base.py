"""The contract between the training loop and a method.

A method is an ``nn.Module``. Its parameters are what its meta step learns (Θ), its buffers are what it
remembers (class groups, soft labels, ...): ``state_dict`` is the flat dict of tensors that a checkpoint
needs, so saving and exact resume come free. The defaults below are ERM; a method overrides what differs.

In an epoch the loop calls ``begin_epoch``, ``between_epochs`` and ``turns``; then for every batch
``prepare``, the forward pass, ``observe``, the meta step where one is due, and ``objective``.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import nn

from cmw_pipeline.config.methods import MethodBase
from cmw_pipeline.meta.weighting import WeightingFunction

View = Literal["plain", "weak", "strong"]
"""How an image is shown: as it is; cropped and flipped by the recipe; the same with AutoAugment on top."""


@dataclass(frozen=True)
class Problem:
    """What a method may know of the training set: the given labels, never the clean ones."""

    num_classes: int
    labels: torch.Tensor
    """(N,) int64 given labels."""
    weighting: WeightingFunction | None = None
    """The frozen function, for a transfer."""
    first_logits: torch.Tensor | None = None
    """(N, K) logits of the run that the method starts from, on the training set without augmentation."""
    candidates: torch.Tensor | None = None
    """(N, K) bool candidate sets; the given labels are then only drawn from them."""
    first_memory: Mapping[str, torch.Tensor] = field(default_factory=dict)
    """What the method of the run that this one starts from remembered: the tensors of its state."""

    @property
    def allowed(self) -> torch.Tensor:
        """(N, K) bool: the candidates; of a sample with a label, that label alone."""
        if self.candidates is not None:
            return self.candidates
        return F.one_hot(self.labels, self.num_classes).bool()

    @property
    def labelled(self) -> torch.Tensor:
        """(N,) bool: the samples whose label is known, right or wrong."""
        return self.allowed.sum(dim=1) == 1

    @property
    def first_labels(self) -> torch.Tensor:
        """(N,) int64: what the first run predicts, among the candidates."""
        assert self.first_logits is not None
        return self.first_logits.masked_fill(~self.allowed, -torch.inf).argmax(dim=1)

    @property
    def class_counts(self) -> torch.Tensor:
        """(K,) int64 training samples of each class by given label."""
        return torch.bincount(self.labels, minlength=self.num_classes)


@dataclass(frozen=True)
class Stream:
    """Samples that an epoch draws batches from; the first stream of a turn sets its number of steps."""

    rows: npt.NDArray[np.int64]
    batch_size: int | None = None
    """None: the recipe's."""
    views: tuple[View, ...] = ("weak",)


@dataclass(frozen=True)
class Batch:
    """Training samples as a step sees them."""

    images: torch.Tensor
    """(B, C, H, W) float, augmented and normalised: the first view."""
    labels: torch.Tensor
    """(B,) int64 given labels."""
    rows: torch.Tensor
    """(B,) int64 positions in the training set."""
    views: tuple[torch.Tensor, ...] = ()
    """The views after the first, as ``images``."""
    others: tuple["Batch", ...] = ()
    """A batch of each of the turn's other streams."""
    turn: int = 0
    evidence: Mapping[str, torch.Tensor] = field(default_factory=dict)
    """What ``prepare`` found out and ``objective`` needs: soft labels, mixing partners, ..."""


def mix(values: torch.Tensor, partners: torch.Tensor, lam: torch.Tensor) -> torch.Tensor:
    """λ x_i + (1 − λ) x_π(i), of images or soft labels."""
    return lam * values + (1 - lam) * values[partners]


@dataclass(frozen=True)
class Networks:
    """The networks of a run, for a method that asks them something; never for a gradient."""

    student: nn.Module
    teacher: nn.Module | None
    """The student's moving average, where the recipe has one."""
    scan: Callable[[nn.Module], torch.Tensor]
    """(N, K) logits of a network on the training set, in evaluation mode, without augmentation."""
    mix: Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor] = mix
    """Images, each with its partner, by λ; of a share of a batch with partners in the whole of it."""


class Method(nn.Module):
    """Answers what the loop asks; as it stands, plain ERM.

    ``active`` is false in the epochs before ``start_epoch``, when the method trains by plain mean
    cross-entropy.
    """

    head: str = "linear"
    """The classifier's output layer: linear, cosine, experts, probe, abstain or select."""
    steady: bool = False
    """Whether an active epoch's iteration is the same tensor program in all of them: buffers change in place,
    and nothing that the host decides changes but ``active`` and the teacher's decay."""
    divisible: bool = False
    """Whether several processes can train it although it prepares images or calls the network by itself."""
    towers: int = 1
    """Networks side by side; two of them give logits (B, 2, K) in training mode."""
    needs_teacher: bool = False
    starts_from_first: bool = False
    """Whether the network's trunk starts from the weights of the run named ``first``."""

    def __init__(self, options: MethodBase, problem: Problem) -> None:
        super().__init__()
        self.first_epoch = options.start_epoch
        self.num_samples = len(problem.labels)
        self.num_classes = problem.num_classes
        self.active = self.first_epoch == 0

    def begin_epoch(self, epoch: int) -> None:
        """Called before the first step of every epoch, and again when a run resumes inside it."""
        self.active = epoch >= self.first_epoch

    def between_epochs(self, epoch: int, networks: Networks) -> None:
        """Called once before each epoch, not at a resume inside it: splits, corrections, selections."""

    def turns(self, epoch: int) -> list[list[Stream]]:
        """What the epoch goes through, one turn after the other; a function of ``epoch`` and the buffers."""
        return [[Stream(np.arange(self.num_samples))]]

    def prepare(self, batch: Batch, networks: Networks) -> Batch:
        """Mix, guess, look things up, without gradient, before the forward pass."""
        return batch

    def logits(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        """The forward pass; (B, K), or what the model's head gives."""
        logits: torch.Tensor = model(batch.images)
        return logits

    def observe(self, logits: torch.Tensor, batch: Batch) -> None:
        """See the detached logits of the training pass, before the loss: for memories."""

    def losses(self, logits: torch.Tensor, batch: Batch) -> torch.Tensor:
        """(B,) loss of each sample; cross-entropy with the given label."""
        return F.cross_entropy(logits, batch.labels, reduction="none")

    def weights(self, losses: torch.Tensor, batch: Batch) -> torch.Tensor:
        """(B,) weight of each sample, from its detached loss."""
        return torch.ones_like(losses)

    def objective(self, logits: torch.Tensor, batch: Batch) -> torch.Tensor:
        """The scalar training loss of a batch."""
        losses = self.losses(logits, batch)
        if not self.active:
            return losses.mean()
        return (self.weights(losses.detach(), batch) * losses).mean()

    def confidence(self, logits: torch.Tensor) -> torch.Tensor:
        """(B,) how sure a prediction is, of (B, K) logits in evaluation mode: the largest probability."""
        return logits.double().softmax(dim=1).amax(dim=1)

    def teacher_decay(self, decay: float, iteration: int) -> float:
        """The teacher's decay at an iteration, given the recipe's; 1 leaves it as it is."""
        return decay


class MetaMethod(Method):
    """A method with a meta step: weights that depend on Θ, which the look-ahead gradient improves."""

    steps_as_optimizer: bool = False
    """Whether the virtual step is the optimiser's, with momentum and weight decay, not a plain one."""

    def meta_batch(self, batch: Batch) -> Batch | None:
        """The meta batch, where the method has it in a stream of its own."""
        return None

    def virtual_images(self, batch: Batch) -> torch.Tensor:
        """The images of the virtual step; where they are the batch's own, one pass serves both steps."""
        return batch.images

    def theta(self, batch: Batch) -> list[torch.Tensor]:
        """What the meta step learns; called before the virtual step, so it may be made anew for a batch."""
        raise NotImplementedError

    def virtual_objective(self, logits: torch.Tensor, batch: Batch) -> torch.Tensor:
        """The training loss of the virtual step, a function of Θ."""
        return self.objective(logits, batch)

    def prepare_meta(self, batch: Batch) -> Batch:
        """The meta batch as the meta loss sees it."""
        return batch

    def meta_objective(self, logits: torch.Tensor, batch: Batch) -> torch.Tensor:
        """The meta loss: mean cross-entropy of the prediction, which is the mean of experts' logits."""
        return F.cross_entropy(logits.mean(dim=1) if logits.dim() == 3 else logits, batch.labels)

    def learn(self, gradient: list[torch.Tensor], batch: Batch) -> None:
        """Take the gradient of the meta loss with respect to Θ."""
        raise NotImplementedError


def weighted_mean(losses: torch.Tensor, weights: torch.Tensor, normalisation: str) -> torch.Tensor:
    """Σ v_i ℓ_i / c: c = B (``mean``), or the detached Σ v_i (``sum``; 1 where all weights vanish)."""
    total = (weights * losses).sum()
    if normalisation == "mean":
        return total / len(losses)
    mass = weights.detach().sum()
    return total / torch.where(mass > 0, mass, 1.0)
