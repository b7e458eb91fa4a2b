"""GCE: a loss between cross-entropy and mean absolute error (Zhang & Sabuncu, NeurIPS 2018)."""

import torch
from torch import nn

from cmw_pipeline.config.methods.losses import Gce as Options
from cmw_pipeline.methods.base import Batch, Method, Networks, Problem, Weigh
from cmw_pipeline.methods.parts.losses import generalised_cross_entropy


class Gce(Method):
    """(1 − p_y^q) / q; truncated, a sample whose label is improbable is left out until the next choice.

    The paper's truncated loss differs from this by a constant, which has no gradient. The published code
    chooses by the network of the best test accuracy so far; here it is the network as it is.
    """

    def __init__(self, options: Options, problem: Problem) -> None:
        super().__init__(options, problem)
        self.loss = generalised_cross_entropy(options.q)
        self.options = options
        self.labels = problem.labels
        self.kept = nn.Buffer(torch.ones(len(problem.labels), dtype=torch.bool))

    def between_epochs(self, epoch: int, networks: Networks) -> None:
        """Where a choice is due, keep the samples whose given label is probable enough."""
        since = epoch - max(self.options.prune_from, self.first_epoch)
        if self.options.threshold is None or since < 0 or since % self.options.prune_every:
            return
        probabilities = networks.scan(networks.student).softmax(dim=1)
        self.kept.copy_(probabilities.gather(1, self.labels[:, None])[:, 0] > self.options.threshold)

    def sample_loss(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """(B,) L_q with the given label."""
        return self.loss(logits, labels)

    def objective(self, logits: torch.Tensor, batch: Batch, weigh: Weigh) -> torch.Tensor:
        """The weighted mean of the losses, those that are left out zero."""
        losses = self.losses(logits, batch)
        return weigh(losses, batch.labels).mean(self.kept[batch.rows].to(losses.dtype) * losses)

    def weights(self, losses: torch.Tensor, batch: Batch) -> torch.Tensor:
        """(B,) zero for what is left out."""
        return self.kept[batch.rows].to(losses.dtype) * super().weights(losses, batch)
