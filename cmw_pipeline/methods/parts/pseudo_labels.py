"""Guesses on a weak view that are learned on a strong one: what FixMatch and its successors share."""

import dataclasses

import numpy as np
import torch

from cmw_pipeline.config.methods.tasks import Abc, FixMatch, FlexMatch, FreeMatch, SoftMatch
from cmw_pipeline.methods.base import Batch, Method, Networks, Problem, Stream, Weigh
from cmw_pipeline.methods.parts.losses import cross_entropy

Options = Abc | FixMatch | FlexMatch | FreeMatch | SoftMatch
MEMORY = 0.999
"""Share of the old value that stays in a running mean, as published."""


class PseudoLabels(Method):
    """CE of the labelled images, and of the others' guesses: a mean over all U, each times how sure it is.

    Before ``start_epoch`` only the labelled images count. A weighting is that of the guesses, by the guessed
    class (Shu et al., TPAMI 2023, section 7.2; details ours).
    """

    def __init__(self, options: Options, problem: Problem) -> None:
        super().__init__(options, problem)
        self.unlabelled = options.unlabelled
        self.streams = _streams(problem, options)
        self.current = torch.empty(0)

    def turns(self, epoch: int) -> list[list[Stream]]:
        """Unlabelled and labelled images side by side."""
        return self.streams

    def prepare(self, batch: Batch, networks: Networks) -> Batch:
        """One batch of labelled, weak and strong views, so that batch norm sees their mixture."""
        (labelled,) = batch.others
        return dataclasses.replace(batch, images=torch.cat([labelled.images, batch.images, *batch.views]))

    def observe(self, logits: torch.Tensor, batch: Batch) -> None:
        """Say how sure each guess is."""
        if self.active:
            _, weak, _ = parts(logits, batch)
            self.current = self.sure(weak.softmax(dim=1), batch)

    def sure(self, probabilities: torch.Tensor, batch: Batch) -> torch.Tensor:
        """(U,) from 0 to 1, what a guess counts for, by (U, K) probabilities on weak views; once a step."""
        raise NotImplementedError

    def fairness(self, strong: torch.Tensor) -> torch.Tensor | float:
        """A scalar that is added to the loss, of (U, K) logits of strong views."""
        return 0.0

    def objective(self, logits: torch.Tensor, batch: Batch, weigh: Weigh) -> torch.Tensor:
        """The scalar loss of (L + 2 U, K) logits: labelled images, weak views, strong views."""
        (labelled,) = batch.others
        given, weak, strong = parts(logits, batch)
        loss = cross_entropy(given, labelled.labels).mean()
        if not self.active:
            return loss
        guesses = weak.detach().argmax(dim=1)
        guessed = cross_entropy(strong, guesses)
        weights = weigh(guessed, guesses).factors(among=self.current)
        return loss + self.unlabelled * (self.current * weights * guessed).mean() + self.fairness(strong)


def _streams(problem: Problem, options: Options) -> list[list[Stream]]:
    """Every image as unlabelled, labelled ones too, and beside them batches of the labelled ones."""
    everything = np.arange(len(problem.labels))
    labelled = everything[problem.labelled.cpu().numpy()]
    many = Stream(everything, options.batch_size * options.ratio, ("weak", options.strong_view))
    return [[many, Stream(labelled, options.batch_size)]]


def parts(logits: torch.Tensor, batch: Batch) -> tuple[torch.Tensor, ...]:
    """Logits of labelled images, weak views and strong views of such a batch."""
    (labelled,) = batch.others
    return torch.split(logits, [len(labelled.rows), len(batch.rows), len(batch.rows)])
