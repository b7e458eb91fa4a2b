"""DISC: two views tell clean, hard and wrong labels apart, by own thresholds (Li et al., CVPR 2023)."""

import dataclasses

import numpy as np
import torch
from torch import nn

from cmw_pipeline.config.methods.memory import Disc as Options
from cmw_pipeline.methods.base import Batch, Method, Networks, Problem, Stream, Weigh
from cmw_pipeline.methods.mixup import draw_lambda, mix
from cmw_pipeline.methods.parts.losses import SampleLoss, cross_entropy, generalised_cross_entropy, hits

_CERTAIN = 0.99
_Q = 0.7


class Disc(Method):
    """CE of clean samples, GCE of hard ones, and mixup of both and the corrected ones.

    A view accepts a label that is more probable than the sample's ``thresholds`` (2, N), running means of its
    largest probability. Clean is what both accept, hard what one does; of the others a label is corrected
    where both views together are confident. This is settled between epochs from ``said`` (2, N, K), what the
    epoch's passes in training mode predicted. CE and GCE are of both views, summed, in the batch's mean.

    One pass shows the views and their mixtures, so that batch norm sees all of them; of a mixed batch what is
    neither clean, hard nor corrected has partners of its kind, and does not count. The published code shows
    the mixtures of the others in passes of their own.
    """

    def __init__(self, options: Options, problem: Problem) -> None:
        super().__init__(options, problem)
        self.options = options
        self.hard_loss = generalised_cross_entropy(_Q)
        size = self.num_samples
        self.given = nn.Buffer(problem.labels, persistent=False)
        self.thresholds = nn.Buffer(torch.full((2, size), 1 / size))
        self.said = nn.Buffer(torch.zeros(2, size, self.num_classes))
        self.clean = nn.Buffer(torch.zeros(size, dtype=torch.bool))
        self.hard = nn.Buffer(torch.zeros(size, dtype=torch.bool))
        self.mixed = nn.Buffer(torch.zeros(size, dtype=torch.bool))
        self.labels = nn.Buffer(problem.labels.clone())

    def between_epochs(self, epoch: int, networks: Networks) -> None:
        """Part the samples by what the epoch before said, then move the thresholds."""
        if epoch == 0:
            return
        own = self.said.gather(2, self.given.expand(2, -1)[:, :, None])[:, :, 0]
        accepted = own > self.thresholds
        best, guess = self.said.mean(dim=0).max(dim=1)
        enough = (self.thresholds.mean(dim=0) + self.options.offset).clamp(max=_CERTAIN)
        corrected = ~accepted.any(dim=0) & (best > enough)
        self.clean.copy_(accepted.all(dim=0))
        self.hard.copy_(accepted[0] ^ accepted[1])
        self.mixed.copy_(accepted.any(dim=0) | corrected)
        self.labels.copy_(torch.where(corrected, guess, self.given))
        self.thresholds.lerp_(self.said.amax(dim=2), 1 - self.options.memory)

    def turns(self, epoch: int) -> list[list[Stream]]:
        """Two views of everything."""
        return [[Stream(np.arange(self.num_samples), views=("weak", self.options.strong_view))]]

    def prepare(self, batch: Batch, networks: Networks) -> Batch:
        """One batch of both views, then both of them mixed, each by itself."""
        views = [batch.images, *batch.views]
        if not self.active:
            return dataclasses.replace(batch, images=torch.cat(views))
        kept, labels = self.mixed[batch.rows], self.labels[batch.rows]
        soft = hits(self.said, labels).to(batch.images)
        mixed, targets = [], []
        for view in views:
            lam, partners = draw_lambda(self.options.mixup, view.device), partners_of_a_kind(kept)
            mixed.append(mix(view, partners, lam))
            targets.append(mix(soft, partners, lam))
        evidence = {"targets": torch.cat(targets)}
        return dataclasses.replace(batch, images=torch.cat(views + mixed), evidence=evidence)

    def observe(self, logits: torch.Tensor, batch: Batch) -> None:
        """Remember what is said of both views."""
        views = torch.stack(logits[: 2 * len(batch.rows)].chunk(2))
        self.said[:, batch.rows] = views.softmax(dim=2).to(self.said)

    def losses(self, logits: torch.Tensor, batch: Batch) -> torch.Tensor:
        """(B,) cross-entropies of the given label, of both views together."""
        return self._of_both(cross_entropy, logits, batch)

    def objective(self, logits: torch.Tensor, batch: Batch, weigh: Weigh) -> torch.Tensor:
        """The scalar loss of (4B, K) logits; a weight is that of a clean sample's label."""
        given = self.losses(logits, batch)
        if not self.active:
            return weigh(given, batch.labels).mean(given)
        clean, hard, mixed = (part[batch.rows].to(given) for part in (self.clean, self.hard, self.mixed))
        loss = (clean * weigh(given, batch.labels).factors(among=clean) * given).mean()
        loss = loss + self.options.hard * (hard * self._of_both(self.hard_loss, logits, batch)).mean()
        of_mixtures = cross_entropy(logits[2 * len(batch.rows) :], batch.evidence["targets"])
        return loss + (mixed.repeat(2) * of_mixtures).sum() / mixed.sum().clamp(min=1)

    def _of_both(self, loss: SampleLoss, logits: torch.Tensor, batch: Batch) -> torch.Tensor:
        first, second = logits[: 2 * len(batch.labels)].chunk(2)
        return loss(first, batch.labels) + loss(second, batch.labels)


def partners_of_a_kind(kind: torch.Tensor) -> torch.Tensor:
    """(B,) int64 of (B,) bool: a random permutation, from true ones to true ones, others to others."""
    last = (~kind).to(torch.float32)
    in_order = last.argsort(stable=True)
    shuffled = (last + torch.rand(len(kind), device=kind.device)).argsort()
    return torch.empty_like(in_order).scatter(0, in_order, shuffled)
