"""The contract between the training loop and a method: what is minimised.

A run is a method and a weighting under it, which says how much each loss counts. Both are ``nn.Module``:
their parameters are what the meta step learns (Θ), their buffers what they remember (soft labels, class
groups, ...). ``state_dict`` is the flat dict of tensors that a checkpoint needs, so saving and exact resume
come free. The defaults below are ERM; a method overrides what differs.

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

from cmw_pipeline.config.contracts import File
from cmw_pipeline.config.methods.base import MethodBase
from cmw_pipeline.methods.mixup import mix
from cmw_pipeline.methods.problem import Problem as Problem
from cmw_pipeline.methods.weightings.base import Weigh as Weigh
from cmw_pipeline.methods.weightings.base import Weighting
from cmw_pipeline.methods.weightings.base import Weights as Weights

View = Literal["plain", "weak", "strong"]
"""How an image is shown: as it is; cropped and flipped by the recipe; the same with AutoAugment on top."""


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
    cross-entropy. ``weighting`` says how much each loss counts once both have started.
    """

    weighting: Weighting

    def __init__(self, options: MethodBase, problem: Problem) -> None:
        super().__init__()
        self.facts = type(options)
        self.first_epoch = options.start_epoch
        self.num_samples = len(problem.labels)
        self.num_classes = problem.num_classes
        self.epoch = 0

    @property
    def active(self) -> bool:
        """Whether the method has started."""
        return self.epoch >= self.first_epoch

    @property
    def weighs(self) -> bool:
        """Whether the weighting has started too."""
        return self.active and self.epoch >= self.weighting.first_epoch

    def begin_epoch(self, epoch: int) -> None:
        """Called before the first step of every epoch, and again when a run resumes inside it."""
        self.epoch = epoch

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

    def sample_loss(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """(B,) loss of each given label once the method has started; cross-entropy."""
        return F.cross_entropy(logits, labels, reduction="none")

    def losses(self, logits: torch.Tensor, batch: Batch) -> torch.Tensor:
        """(B,) loss of each sample; cross-entropy with the given label until the method starts."""
        if self.active:
            return self.sample_loss(logits, batch.labels)
        return F.cross_entropy(logits, batch.labels, reduction="none")

    def objective(self, logits: torch.Tensor, batch: Batch, weigh: Weigh) -> torch.Tensor:
        """The scalar training loss of a batch; ``weigh`` says what losses count."""
        losses = self.losses(logits, batch)
        return weigh(losses, batch.labels).mean(losses)

    def weigh(self, losses: torch.Tensor, labels: torch.Tensor) -> Weights:
        """What losses count in the real step: :data:`Weigh`."""
        return self.weighting.weights(losses.detach(), labels) if self.weighs else _alike(losses)

    def weights(self, losses: torch.Tensor, batch: Batch) -> torch.Tensor:
        """(B,) what each given label counts for at its ``sample_loss``: for the record, after training."""
        return self.weigh(losses, batch.labels).values

    def confidence(self, logits: torch.Tensor) -> torch.Tensor:
        """(B,) how sure a prediction is, of (B, K) logits in evaluation mode: the largest probability."""
        return logits.double().softmax(dim=1).amax(dim=1)

    def finish(self, network: nn.Module) -> None:
        """Change the trained network, or its teacher, once, before it is tested for the last time."""

    def leaves(self) -> Mapping[File, torch.Tensor]:
        """What a finished run leaves beside the files that every run leaves; nothing."""
        return {}

    def teacher_decay(self, decay: float, iteration: int) -> float:
        """The teacher's decay at an iteration, given the recipe's; 1 leaves it as it is."""
        return decay

    # --- the meta step

    def meta_batch(self, batch: Batch) -> Batch | None:
        """The meta batch, where the method has it in a stream of its own."""
        return None

    def virtual_images(self, batch: Batch) -> torch.Tensor:
        """The images of the virtual step; where they are the batch's own, one pass serves both steps."""
        return batch.images

    def theta(self, batch: Batch) -> list[torch.Tensor]:
        """What the meta step learns; called before the virtual step, so it may be made anew for a batch."""
        return self.weighting.theta(batch.labels)

    def virtual_objective(self, logits: torch.Tensor, batch: Batch) -> torch.Tensor:
        """The training loss of the virtual step, a function of Θ."""

        def weigh(losses: torch.Tensor, labels: torch.Tensor) -> Weights:
            return self.weighting.virtual_weights(losses.detach(), labels)

        return self.objective(logits, batch, weigh)

    def prepare_meta(self, batch: Batch) -> Batch:
        """The meta batch as the meta loss sees it: mixed, or in two views."""
        return self.weighting.meta_loss.prepare(batch)

    def meta_objective(self, logits: torch.Tensor, batch: Batch) -> torch.Tensor:
        """The meta loss of the prediction; the weighting says which one."""
        return self.weighting.meta_loss.of(self.prediction(logits), batch)

    def prediction(self, logits: torch.Tensor) -> torch.Tensor:
        """(B, K) of what the head gives in training mode: the mean of experts, the first K outputs."""
        return logits.mean(dim=1) if logits.dim() == 3 else logits[:, : self.num_classes]

    def learn(self, gradient: list[torch.Tensor]) -> None:
        """Take the gradient of the meta loss with respect to Θ."""
        self.weighting.learn(gradient)


def _alike(losses: torch.Tensor) -> Weights:
    return Weights(torch.ones_like(losses))
