"""FixMatch: what is guessed with confidence on a weak view is learned on a strong one (NeurIPS 2020)."""

import torch

from cmw_pipeline.config.methods.tasks import FixMatch as Options
from cmw_pipeline.methods.base import Batch, Method, Networks, Problem, Stream
from cmw_pipeline.methods.parts.pseudo_labels import pass_losses, streams, together


class FixMatch(Method):
    """CE of the labelled images, and of the others' guesses: a mean over all U, unsure ones counting zero.

    Sohn et al., NeurIPS 2020. Before ``start_epoch`` only the labelled images count.
    """

    steady = True

    def __init__(self, options: Options, problem: Problem) -> None:
        super().__init__(options, problem)
        self.options = options
        self.streams = streams(problem, options)

    def turns(self, epoch: int) -> list[list[Stream]]:
        """Unlabelled and labelled images side by side."""
        return self.streams

    def prepare(self, batch: Batch, networks: Networks) -> Batch:
        """One batch of labelled, weak and strong views."""
        return together(batch)

    def objective(self, logits: torch.Tensor, batch: Batch) -> torch.Tensor:
        """Of (L + 2 U, K) logits."""
        found = pass_losses(logits, batch, self.options.threshold)
        if not self.active:
            return found.labelled.mean()
        return found.labelled.mean() + self.options.unlabelled * (found.sure * found.guessed).mean()
