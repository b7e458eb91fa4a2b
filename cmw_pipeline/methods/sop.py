"""SOP: a sparse correction a sample absorbs what is wrong with its label (Liu et al., ICML 2022)."""

import dataclasses

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from cmw_pipeline.config.methods.memory import Sop as Options
from cmw_pipeline.methods.base import Batch, Method, Networks, Problem, Stream, Weigh
from cmw_pipeline.methods.parts.losses import hits

_LEAST = 1e-4
_FIRST = 1e-8


class Sop(Method):
    """−log q_y / Σ q with q = max(p + U − V, 1e-4): U ≥ 0 on the label's entry, V ≥ 0 on the others.

    ``u`` (N,) and ``v`` (N, K), squared and at most 1, are U and V. They start next to zero, which keeps
    them sparse, and move by plain gradient descent at rates of their own: u by the loss and by
    |h + U − V − y|², h the predicted class, v by the latter alone; both are means over the batch. A batch
    is trained on with what the steps before left.

    With ``consistency`` a second view is predicted like the first, KL(p_1 | p_2), no gradient through p_1;
    with ``balance`` no class is left out, −(1/K) Σ_k log of the batch's mean q_k: SOP+.
    """

    def __init__(self, options: Options, problem: Problem) -> None:
        super().__init__(options, problem)
        self.options = options
        self.u = nn.Buffer(_FIRST * torch.randn(self.num_samples))
        self.v = nn.Buffer(_FIRST * torch.randn(self.num_samples, self.num_classes))
        self.current = torch.empty(0)

    def turns(self, epoch: int) -> list[list[Stream]]:
        """Everything, in two views where they are compared."""
        second = (self.options.strong_view,) if self.options.consistency else ()
        return [[Stream(np.arange(self.num_samples), views=("weak", *second))]]

    def prepare(self, batch: Batch, networks: Networks) -> Batch:
        """One batch of all first views, then all second ones if there are any."""
        return dataclasses.replace(batch, images=torch.cat([batch.images, *batch.views]))

    def observe(self, logits: torch.Tensor, batch: Batch) -> None:
        """Take the corrections to train with, then move them."""
        if self.active:
            u, v = self.u[batch.rows], self.v[batch.rows]
            self.current = correction(u, v, batch.labels)
            first = logits[: len(batch.labels)].to(v)
            du, dv = slopes(first, batch.labels, u, v)
            self.u[batch.rows] = u - self.options.lr_u * du
            self.v[batch.rows] = v - self.options.lr_v * dv

    def losses(self, logits: torch.Tensor, batch: Batch) -> torch.Tensor:
        """(B,) −log of the corrected probability of the label, of the first view."""
        first = logits[: len(batch.labels)]
        if not self.active:
            return super().losses(first, batch)
        shares = F.normalize(corrected(first, self.current), p=1, dim=1).clamp(min=_LEAST)
        return -shares.gather(1, batch.labels[:, None])[:, 0].log()

    def objective(self, logits: torch.Tensor, batch: Batch, weigh: Weigh) -> torch.Tensor:
        """Their weighted mean, and what SOP+ adds."""
        loss = super().objective(logits, batch, weigh)
        if self.active and self.options.consistency:
            first, second = (part.log_softmax(dim=1) for part in logits.chunk(2))
            apart = F.kl_div(second, first.detach(), reduction="batchmean", log_target=True)
            loss = loss + self.options.consistency * apart
        if self.active and self.options.balance:
            q = corrected(logits[: len(batch.labels)], self.current)
            mean = F.normalize(q, p=1, dim=1).mean(dim=0)
            loss = loss - self.options.balance * mean.clamp(min=_LEAST).log().mean()
        return loss


def correction(u: torch.Tensor, v: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """(B, K) U − V of (B,) u and (B, K) v."""
    return torch.where(hits(v, labels), u.square().clamp(max=1)[:, None], -v.square().clamp(max=1))


def corrected(logits: torch.Tensor, correction: torch.Tensor) -> torch.Tensor:
    """(B, K) q, which sums to anything."""
    return (logits.softmax(dim=1) + correction).clamp(min=_LEAST)


def slopes(
    logits: torch.Tensor, labels: torch.Tensor, u: torch.Tensor, v: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Gradients by u and by v, (B,) and (B, K), of mean −log q_y / Σ q, V held, and of mean |h + U − V − y|².

    The authors' third version, since September 2022: u learns from both, v from the second. Closed form: zero
    where a bound holds.
    """
    size = len(labels)
    hit, at_label = hits(v, labels), labels[:, None]
    total = corrected(logits, correction(u, v, labels)).sum(dim=1)
    own = logits.softmax(dim=1).gather(1, at_label)[:, 0] + u.square().clamp(max=1)
    predicted = hits(v, logits.argmax(dim=1)).to(v)
    free = (own >= _LEAST) & (own / total >= _LEAST)
    of_loss = torch.where(free, 1 / total - 1 / own, 0.0)
    of_match = 2 * (predicted.gather(1, at_label)[:, 0] + u.square() - 1)
    du = torch.where(u.square() <= 1, 2 * u * (of_loss + of_match), 0.0)
    dv = torch.where(hit | (v.square() > 1), 0.0, -4 * v * (predicted - v.square()))
    return du / size, dv / size
