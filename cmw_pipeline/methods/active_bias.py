"""ActiveBias (SGD-WPV): what the network keeps changing its mind about counts more (NeurIPS 2017)."""

import torch
from torch import nn

from cmw_pipeline.config.methods.memory import ActiveBias as Options
from cmw_pipeline.methods.base import Batch, Method, Problem, Weigh


class ActiveBias(Method):
    """w_i ∝ sqrt(v + v² / (n − 1)) + ε: v the variance of the given label's probability over n epochs.

    Chang, Learned-Miller and McCallum (NeurIPS 2017); the weights of a batch have mean 1. The probabilities
    are those of the training passes, this step's not among them: mean, sum of squared deviations and count
    of each sample are all that is kept (Welford, 1962).
    """

    def __init__(self, options: Options, problem: Problem) -> None:
        super().__init__(options, problem)
        self.smoothing = options.smoothing
        self.mean, self.deviation, self.count = (nn.Buffer(torch.zeros(self.num_samples)) for _ in range(3))

    def weights(self, losses: torch.Tensor, batch: Batch) -> torch.Tensor:
        """(B,) uncertainty of each sample's probability so far, smoothed; mean 1."""
        count = self.count[batch.rows]
        variance = self.deviation[batch.rows] / count.clamp(min=1)
        weights = (variance + variance.square() / (count - 1).clamp(min=1)).sqrt() + self.smoothing
        return weights / weights.mean()

    def objective(self, logits: torch.Tensor, batch: Batch, weigh: Weigh) -> torch.Tensor:
        """The weighted mean; then the probabilities join the history."""
        losses = self.losses(logits, batch)
        weights = self.weights(losses, batch) if self.active else torch.ones_like(losses)
        loss = (weights * losses).mean()
        self._remember(logits.detach(), batch)
        return loss

    def _remember(self, logits: torch.Tensor, batch: Batch) -> None:
        rows = batch.rows
        probability = logits.softmax(dim=1).gather(1, batch.labels[:, None]).squeeze(1)
        count = self.count[rows] + 1
        surprise = probability - self.mean[rows]
        mean = self.mean[rows] + surprise / count
        self.deviation[rows] += surprise * (probability - mean)
        self.mean[rows], self.count[rows] = mean, count
