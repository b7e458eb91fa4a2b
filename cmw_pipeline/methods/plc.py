"""PLC: correct the surest labels first, more when corrections dry up (Zhang et al., ICLR 2021)."""

import torch
from torch import nn

from cmw_pipeline.config.methods.memory import Plc as Options
from cmw_pipeline.methods.base import Batch, Method, Networks, Problem
from cmw_pipeline.methods.parts.losses import cross_entropy
from cmw_pipeline.methods.parts.prediction_history import PredictionHistory


class Plc(Method):
    """Cross-entropy with ``corrected`` (N,) labels, changed between epochs by a likelihood-ratio test."""

    def __init__(self, options: Options, problem: Problem) -> None:
        super().__init__(options, problem)
        self.options = options
        self.history = PredictionHistory(options.window, self.num_samples, self.num_classes)
        self.corrected = nn.Buffer(problem.labels.clone())
        self.threshold = nn.Buffer(torch.tensor(options.threshold))

    def begin_epoch(self, epoch: int) -> None:
        """Make room in the history."""
        super().begin_epoch(epoch)
        self.history.turn_to(epoch)

    def between_epochs(self, epoch: int, networks: Networks) -> None:
        """Correct; where hardly a label changed, the threshold rises."""
        if epoch == 0 or epoch < self.first_epoch:
            return
        own, best, guess = self.history.test(self.corrected)
        wrong = own < self.threshold * best
        self.corrected.copy_(torch.where(wrong, guess, self.corrected))
        raised = (self.threshold + self.options.threshold_step).clamp(max=self.options.threshold_end)
        is_dry = wrong.sum() < self.options.dry * self.num_samples
        self.threshold.copy_(torch.where(is_dry, raised, self.threshold))

    def observe(self, logits: torch.Tensor, batch: Batch) -> None:
        """Remember what the network says, from the first epoch on."""
        self.history.record(batch.rows, logits)

    def losses(self, logits: torch.Tensor, batch: Batch) -> torch.Tensor:
        """(B,) cross-entropy with the corrected label."""
        return cross_entropy(logits, self.corrected[batch.rows])
