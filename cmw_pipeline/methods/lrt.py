"""LRT, or AdaCorr: a likelihood-ratio test corrects labels, an anchor slows it (Zheng et al., ICML 2020)."""

import torch
import torch.nn.functional as F
from torch import nn

from cmw_pipeline.config.methods.memory import Lrt as Options
from cmw_pipeline.methods.base import Batch, Method, Networks, Problem
from cmw_pipeline.methods.parts.losses import cross_entropy
from cmw_pipeline.methods.parts.prediction_history import PredictionHistory


class Lrt(Method):
    """Cross-entropy with ``corrected`` (N,) labels, plus that with the labels of an earlier epoch.

    The published code keeps a K x K matrix for each sample, constant but for the row of one label; that
    label, ``anchor`` (N,), is all that is needed.
    """

    def __init__(self, options: Options, problem: Problem) -> None:
        super().__init__(options, problem)
        self.options = options
        self.history = PredictionHistory(options.window, self.num_samples, self.num_classes)
        self.corrected = nn.Buffer(problem.labels.clone())
        self.anchor = nn.Buffer(problem.labels.clone())

    def begin_epoch(self, epoch: int) -> None:
        """Make room in the history."""
        super().begin_epoch(epoch)
        self.history.turn_to(epoch)

    def between_epochs(self, epoch: int, networks: Networks) -> None:
        """Correct, by a ratio that grows; cast anchor at the start, and once more."""
        corrections = epoch - self.options.correct_after
        if corrections > 0:
            own, best, guess = self.history.test(self.corrected)
            ratio = self.options.ratio + self.options.ratio_step * corrections
            self.corrected.copy_(torch.where(best > ratio * own, guess, self.corrected))
        if epoch in (self.first_epoch, self.first_epoch + self.options.anchor_interval):
            self.anchor.copy_(self.corrected)

    def observe(self, logits: torch.Tensor, batch: Batch) -> None:
        """Remember what the network says, from the first epoch on."""
        self.history.record(batch.rows, logits)

    def losses(self, logits: torch.Tensor, batch: Batch) -> torch.Tensor:
        """(B,) −log p of the corrected label, and of all labels by the anchor's row of the matrix."""
        current = cross_entropy(logits, self.corrected[batch.rows])
        if not self.active:
            return current
        share, rest = self.options.anchor_share, self.options.anchor_rest
        row = rest + (share - rest) * F.one_hot(self.anchor[batch.rows], self.num_classes)
        return current - (row * logits.log_softmax(dim=1)).sum(dim=1)
