"""SELFIE: small losses, and labels refurbished by predictions that do not change (ICML 2019)."""

import math

import torch
from torch import nn

from cmw_pipeline.config.methods.memory import Selfie as Options
from cmw_pipeline.errors import ConfigError
from cmw_pipeline.methods.base import Batch, Method, Problem, Weigh
from cmw_pipeline.methods.parts.losses import cross_entropy

_NONE = -1


class Selfie(Method):
    """Trains on the refurbished samples and the ceil((1 − τ) B) of smallest loss; the rest is left out.

    A sample is refurbished once its last q predicted classes agree (Song, Kim and Lee, ICML 2019): its label
    becomes the most frequent one, and it stays refurbished. A restart is a run of its own, whose ``first``
    is the run before; it keeps that run's corrections, and leaves out no more than what is left uncorrected.

    ``history`` (q, N) are the predicted classes of the training passes, ``corrected`` (N,) the refurbished
    labels; −1 where there is none yet. The loss that is small is that with the given label. The published
    code passes the chosen samples again for the step; here one pass serves both.
    """

    def __init__(self, options: Options, problem: Problem) -> None:
        super().__init__(options, problem)
        self.threshold = options.entropy
        empty = torch.full_like(problem.labels, _NONE)
        self.history = nn.Buffer(empty.expand(options.window, -1).clone())
        self.corrected = nn.Buffer(_kept_corrections(options, problem, empty))
        self.place = nn.Buffer(torch.zeros((), dtype=torch.int64))
        self.forget_rate = min(options.forget_rate, float((self.corrected == _NONE).double().mean()))

    def begin_epoch(self, epoch: int) -> None:
        """Write from now on where the oldest epoch stands."""
        super().begin_epoch(epoch)
        self.place.fill_(epoch % len(self.history))

    def observe(self, logits: torch.Tensor, batch: Batch) -> None:
        """Refurbish what was certain before this pass, as published; remember what is predicted."""
        rows = batch.rows
        if self.active:
            certain, favourite = self.judged(rows)
            self.corrected[rows] = torch.where(certain, favourite, self.corrected[rows])
        self.history[self.place.expand_as(rows), rows] = logits.argmax(dim=1)

    def judged(self, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(B,) bool, whether the last q predictions are certain; (B,) int64, the most frequent of them.

        Certain: there are q of them, and the entropy of their frequencies is at most ``entropy`` log K.
        """
        past = self.history[:, rows]
        classes = torch.arange(self.num_classes, device=rows.device)
        shares = (past[:, :, None] == classes).float().mean(dim=0)
        entropy = torch.special.entr(shares).sum(dim=1) / math.log(self.num_classes)
        whole = (past != _NONE).all(dim=0)
        return whole & (entropy <= self.threshold), shares.argmax(dim=1)

    def labels(self, batch: Batch) -> torch.Tensor:
        """(B,) int64: the refurbished label where there is one, else the given one."""
        corrected = self.corrected[batch.rows]
        return torch.where(corrected == _NONE, batch.labels, corrected)

    def losses(self, logits: torch.Tensor, batch: Batch) -> torch.Tensor:
        """(B,) cross-entropy with the refurbished label, or else the given one."""
        return cross_entropy(logits, self.labels(batch))

    def weights(self, losses: torch.Tensor, batch: Batch) -> torch.Tensor:
        """(B,) 1 for a sample that is trained on, by its loss with the given label, else 0."""
        kept = math.ceil((1 - self.forget_rate) * len(losses) - 1e-9)
        small = losses.argsort(stable=True).argsort() < kept
        return (small | (self.corrected[batch.rows] != _NONE)).to(losses)

    def objective(self, logits: torch.Tensor, batch: Batch, weigh: Weigh) -> torch.Tensor:
        """Mean over the samples that are trained on; over all of them before the start epoch."""
        losses = self.losses(logits, batch)
        if not self.active:
            return losses.mean()
        chosen = self.weights(cross_entropy(logits.detach(), batch.labels), batch)
        return (chosen * losses).sum() / chosen.sum().clamp(min=1)


def _kept_corrections(options: Options, problem: Problem, empty: torch.Tensor) -> torch.Tensor:
    """(N,) int64: the corrections of the run before; none without one."""
    if options.first is None:
        return empty.clone()
    if "corrected" not in problem.first_memory:
        raise ConfigError(
            f"the run before a restart of SELFIE, {options.first.method!r}, keeps no corrected labels",
            "name a method of kind selfie as its first",
        )
    return problem.first_memory["corrected"].to(empty, copy=True)
