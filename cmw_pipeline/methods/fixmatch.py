"""FixMatch: what is guessed with confidence on a weak view is learned on a strong one (NeurIPS 2020)."""

import dataclasses

import numpy as np
import torch

from cmw_pipeline.config.methods.tasks import FixMatch as Options
from cmw_pipeline.methods.base import Batch, Method, Networks, Problem, Stream, Weigh
from cmw_pipeline.methods.parts.losses import cross_entropy


@dataclasses.dataclass(frozen=True)
class _Losses:
    """Losses of one forward pass: of L labelled images, and of U others in their strong view."""

    labelled: torch.Tensor
    """(L,) cross-entropy."""
    guessed: torch.Tensor
    """(U,) cross-entropy with the guess made on the weak view."""
    guesses: torch.Tensor
    """(U,) int64."""
    sure: torch.Tensor
    """(U,) 1 where the guess is at least as probable as the threshold, else 0."""


class FixMatch(Method):
    """CE of the labelled images, and of the others' guesses: a mean over all U, unsure ones counting zero.

    Sohn et al., NeurIPS 2020. Before ``start_epoch`` only the labelled images count. A weighting
    is that of the guesses, by the guessed class (Shu et al., TPAMI 2023, section 7.2; details ours).
    """

    def __init__(self, options: Options, problem: Problem) -> None:
        super().__init__(options, problem)
        self.options = options
        self.streams = _streams(problem, options)

    def turns(self, epoch: int) -> list[list[Stream]]:
        """Unlabelled and labelled images side by side."""
        return self.streams

    def prepare(self, batch: Batch, networks: Networks) -> Batch:
        """One batch of labelled, weak and strong views."""
        return _together(batch)

    def objective(self, logits: torch.Tensor, batch: Batch, weigh: Weigh) -> torch.Tensor:
        """The scalar loss of (L + 2 U, K) logits: labelled images, weak views, strong views."""
        found = _pass_losses(logits, batch, self.options.threshold)
        if not self.active:
            return found.labelled.mean()
        weights = weigh(found.guessed, found.guesses).factors(among=found.sure)
        return found.labelled.mean() + self.options.unlabelled * (found.sure * weights * found.guessed).mean()


def _streams(problem: Problem, options: Options) -> list[list[Stream]]:
    """Every image as unlabelled, labelled ones too, and beside them batches of the labelled ones."""
    everything = np.arange(len(problem.labels))
    labelled = everything[problem.labelled.cpu().numpy()]
    many = Stream(everything, options.batch_size * options.ratio, ("weak", options.strong_view))
    return [[many, Stream(labelled, options.batch_size)]]


def _together(batch: Batch) -> Batch:
    """All images in one batch, so that batch norm sees their mixture: L labelled, U weak, U strong."""
    (labelled,) = batch.others
    return dataclasses.replace(batch, images=torch.cat([labelled.images, batch.images, *batch.views]))


def _pass_losses(logits: torch.Tensor, batch: Batch, threshold: float) -> _Losses:
    """The losses of the logits, (L + 2 U, K), of such a batch."""
    (labelled,) = batch.others
    sizes = [len(labelled.rows), len(batch.rows), len(batch.rows)]
    given, weak, strong = torch.split(logits, sizes)
    probability, guesses = weak.detach().softmax(dim=1).max(dim=1)
    return _Losses(
        labelled=cross_entropy(given, labelled.labels),
        guessed=cross_entropy(strong, guesses),
        guesses=guesses,
        sure=(probability >= threshold).to(logits.dtype),
    )
