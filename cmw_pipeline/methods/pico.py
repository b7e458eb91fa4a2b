"""PiCO: contrast of projections, and prototypes that single out a candidate (Wang et al., ICLR 2022)."""

import dataclasses

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from cmw_pipeline.config.methods.tasks import Pico as Options
from cmw_pipeline.methods.base import Batch, Method, Networks, Problem, Stream, Weigh
from cmw_pipeline.methods.parts.losses import cross_entropy, hits
from cmw_pipeline.methods.parts.mixing import logits_in_mode
from cmw_pipeline.models.heads import NUM_PROJECTED


class Pico(Method):
    """CE(soft label) + λ · contrast of unit projections, those of one guessed class being alike.

    The guess is the most probable candidate. ``targets`` (N, K) starts even on the candidates; in every step
    the share 1 − φ of it goes to the candidate whose ``prototypes`` (K, D) is nearest to the projection, and
    the prototypes then follow the projections of the classes guessed. Projections are compared with those of
    the batch, with the teacher's of a second view (keys), and with the keys of the last steps: ``queue``
    (Q, D) and ``queue_guesses`` (Q,), -1 where no key is yet.

    Before the start epoch the soft labels stand still, and a projection is to find its own key only. The
    published guesses of an empty queue are random reals, which match nothing either; its batches must divide
    the queue, ours need not.
    """

    def __init__(self, options: Options, problem: Problem) -> None:
        super().__init__(options, problem)
        self.options = options
        allowed = problem.allowed
        self.targets = nn.Buffer(allowed / allowed.sum(dim=1, keepdim=True))
        self.allowed = nn.Buffer(allowed, persistent=False)
        self.memory = nn.Buffer(torch.tensor(options.memory_start))
        self.prototypes = nn.Buffer(torch.zeros(self.num_classes, NUM_PROJECTED))
        self.queue = nn.Buffer(F.normalize(torch.randn(options.queue, NUM_PROJECTED)))
        self.queue_guesses = nn.Buffer(torch.full((options.queue,), -1))
        self.seen = torch.empty(0)
        self.guessed = torch.empty(0)

    def begin_epoch(self, epoch: int) -> None:
        """Set φ, which falls in equal steps over ``ramp_epochs``."""
        super().begin_epoch(epoch)
        start, end = self.options.memory_start, self.options.memory_end
        self.memory.fill_(start + (end - start) * min(epoch / self.options.ramp_epochs, 1.0))

    def turns(self, epoch: int) -> list[list[Stream]]:
        """Everything, with the view that the teacher sees."""
        return [[Stream(np.arange(self.num_samples), views=("weak", self.options.strong_view))]]

    def prepare(self, batch: Batch, networks: Networks) -> Batch:
        """Ask the teacher for the keys, (B, D), of the second view."""
        assert networks.teacher is not None
        said = logits_in_mode(networks.teacher, batch.views[0], True)
        return dataclasses.replace(batch, evidence={"keys": self._projections(said)})

    def observe(self, logits: torch.Tensor, batch: Batch) -> None:
        """Guess, move soft labels and then prototypes, and let the keys take the place of the oldest."""
        keys, allowed = batch.evidence["keys"], self.allowed[batch.rows]
        queries = self._projections(logits).to(self.prototypes)
        guesses = logits[:, : self.num_classes].masked_fill(~allowed, -torch.inf).argmax(dim=1)
        if self.active:
            nearest = (queries @ self.prototypes.T).masked_fill(~allowed, -torch.inf).argmax(dim=1)
            one = hits(self.targets, nearest).to(self.targets)
            self.targets[batch.rows] = torch.lerp(one, self.targets[batch.rows], self.memory)
        moved = followed(self.prototypes, queries, guesses, self.options.prototype_memory)
        self.prototypes.copy_(F.normalize(moved))
        self.seen = torch.cat([keys.to(self.queue), self.queue])
        self.guessed = torch.cat([guesses, self.queue_guesses])
        self.queue.copy_(self.seen[: len(self.queue)])
        self.queue_guesses.copy_(self.guessed[: len(self.queue)])

    def losses(self, logits: torch.Tensor, batch: Batch) -> torch.Tensor:
        """(B,) cross-entropy with the soft label."""
        return cross_entropy(logits[:, : self.num_classes], self.targets[batch.rows])

    def objective(self, logits: torch.Tensor, batch: Batch, weigh: Weigh) -> torch.Tensor:
        """The scalar loss of (B, K + D) logits and projections; the contrast is of all samples alike."""
        losses = self.losses(logits, batch)
        queries = self._projections(logits)
        others = self.seen.to(queries)
        if self.active:
            contrast = contrast_of_guesses(queries, others, self.guessed, self.options.temperature)
        else:
            contrast = contrast_of_views(queries, others, self.options.temperature)
        return weigh(losses, batch.labels).mean(losses) + self.options.contrast * contrast.mean()

    def _projections(self, logits: torch.Tensor) -> torch.Tensor:
        """(B, D) of length one, of (B, K + D)."""
        return F.normalize(logits[:, self.num_classes :])


def followed(
    prototypes: torch.Tensor, queries: torch.Tensor, guesses: torch.Tensor, memory: float
) -> torch.Tensor:
    """(K, D) prototypes after m μ + (1 − m) q for one after the other of (B, D) queries and their class."""
    of_class = hits(prototypes[:, 0], guesses).to(queries)
    later = of_class.sum(dim=0) - of_class.cumsum(dim=0)
    shares = of_class * (1 - memory) * memory**later
    kept = memory ** of_class.sum(dim=0)
    return kept[:, None] * prototypes + shares.T @ queries


def contrast_of_views(queries: torch.Tensor, others: torch.Tensor, temperature: float) -> torch.Tensor:
    """(B,) cross-entropy of finding the own key among it and the queue (MoCo, He et al., CVPR 2020).

    Args:
        queries: (B, D) of length one.
        others: (B + Q, D) of length one: the key of each query, then the queue.
        temperature: what the cosines are divided by.
    """
    keys, queue = others[: len(queries)], others[len(queries) :]
    cosines = torch.cat([(queries * keys).sum(dim=1, keepdim=True), queries @ queue.T], dim=1)
    return -(cosines / temperature).log_softmax(dim=1)[:, 0]


def contrast_of_guesses(
    queries: torch.Tensor, others: torch.Tensor, guesses: torch.Tensor, temperature: float
) -> torch.Tensor:
    """(B,) mean over the positives of −log softmax among all but itself (Khosla et al., NeurIPS 2020).

    Args:
        queries: (B, D) of length one; they are compared with each other, too.
        others: (B + Q, D) of length one: the key of each query, then the queue.
        guesses: (B + Q,) int64 classes of the others; the first B are those of the queries. Positives are of
            the same class.
        temperature: what the cosines are divided by.
    """
    size = len(queries)
    itself = F.pad(torch.eye(size, dtype=torch.bool, device=queries.device), (0, len(others)))
    cosines = queries @ torch.cat([queries, others]).T / temperature
    log_p = cosines - cosines.masked_fill(itself, -torch.inf).logsumexp(dim=1, keepdim=True)
    alike = guesses[:size, None] == torch.cat([guesses[:size], guesses])[None]
    positive = (alike & ~itself).to(log_p)
    return -(positive * log_p).sum(dim=1) / positive.sum(dim=1)
