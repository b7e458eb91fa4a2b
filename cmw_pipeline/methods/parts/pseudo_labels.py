"""FixMatch's batches: labelled images, and unlabelled ones in a weak and a strong view, in one pass."""

import dataclasses

import numpy as np
import torch

from cmw_pipeline.config.methods.tasks import FixMatchOptions
from cmw_pipeline.methods.base import Batch, Problem, Stream
from cmw_pipeline.methods.parts.losses import cross_entropy


@dataclasses.dataclass(frozen=True)
class Losses:
    """Of one pass: (L,) of the labelled images, and of the U others in their strong view."""

    labelled: torch.Tensor
    guessed: torch.Tensor
    """(U,) cross-entropy with the guess made on the weak view."""
    guesses: torch.Tensor
    """(U,) int64."""
    sure: torch.Tensor
    """(U,) 1 where the guess is at least as probable as the threshold, else 0."""


def streams(problem: Problem, options: FixMatchOptions) -> list[list[Stream]]:
    """Every image as unlabelled, labelled ones too, and beside them batches of the labelled ones."""
    everything = np.arange(len(problem.labels))
    labelled = everything[problem.labelled.cpu().numpy()]
    many = Stream(everything, options.batch_size * options.ratio, ("weak", options.strong_view))
    return [[many, Stream(labelled, options.batch_size)]]


def together(batch: Batch) -> Batch:
    """All images in one batch, so that batch norm sees their mixture: L labelled, U weak, U strong."""
    (labelled,) = batch.others
    return dataclasses.replace(batch, images=torch.cat([labelled.images, batch.images, *batch.views]))


def pass_losses(logits: torch.Tensor, batch: Batch, threshold: float) -> Losses:
    """The losses of the logits, (L + 2 U, K), of such a batch."""
    (labelled,) = batch.others
    sizes = [len(labelled.rows), len(batch.rows), len(batch.rows)]
    given, weak, strong = torch.split(logits, sizes)
    probability, guesses = weak.detach().softmax(dim=1).max(dim=1)
    return Losses(
        labelled=cross_entropy(given, labelled.labels),
        guessed=cross_entropy(strong, guesses),
        guesses=guesses,
        sure=(probability >= threshold).to(logits.dtype),
    )
