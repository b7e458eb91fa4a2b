"""ELR: stay close to a running average of early predictions (Liu et al., NeurIPS 2020)."""

import torch
from torch import nn

from cmw_pipeline.config.methods.memory import Elr as Options
from cmw_pipeline.methods.base import Batch, Method, Problem, Weigh
from cmw_pipeline.methods.parts.early_learning import early_learning, probabilities


class Elr(Method):
    """CE(given label) + λ log(1 − <t, p>), the target t an average of the sample's predictions.

    ``targets`` (N, K) starts at zero: without a prediction there is nothing to stay close to.
    """

    def __init__(self, options: Options, problem: Problem) -> None:
        super().__init__(options, problem)
        self.memory, self.strength = options.memory, options.strength
        self.targets = nn.Buffer(torch.zeros(self.num_samples, self.num_classes))

    def observe(self, logits: torch.Tensor, batch: Batch) -> None:
        """T <- β t + (1 − β) p, before the loss looks at t."""
        if self.active:
            p = probabilities(logits)
            old = self.targets[batch.rows]
            self.targets[batch.rows] = torch.lerp(p / p.sum(dim=-1, keepdim=True), old, self.memory)

    def objective(self, logits: torch.Tensor, batch: Batch, weigh: Weigh) -> torch.Tensor:
        """Mean of both; a weight is that of the given label, and leaves the regulariser as it is.

        The gradient of the regulariser comes through p alone.
        """
        given = self.losses(logits, batch)
        given = weigh(given, batch.labels).factors() * given
        if not self.active:
            return given.mean()
        return (given + self.strength * early_learning(logits, self.targets[batch.rows])).mean()
