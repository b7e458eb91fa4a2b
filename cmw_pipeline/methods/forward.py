"""Forward correction: predictions pass through the matrix of label noise before the loss sees them.

Patrini et al., CVPR 2017. The matrix is estimated from a first network that was trained on the given labels.
"""

import torch
from torch import nn

from cmw_pipeline.config.methods.losses import Forward as Options
from cmw_pipeline.methods.base import Batch, Method, Problem


class Forward(Method):
    """−log (Tᵀp)_y: the network predicts the true class, T what label the true class is given."""

    def __init__(self, options: Options, problem: Problem) -> None:
        super().__init__(options, problem)
        assert problem.first_logits is not None, "forward correction needs the run it starts from"
        transition = anchor_transition(problem.first_logits.softmax(dim=1), options.percentile)
        self.transition = nn.Buffer(transition)

    def losses(self, logits: torch.Tensor, batch: Batch) -> torch.Tensor:
        """(B,) negative log-probability of the given label behind the noise."""
        if not self.active:
            return super().losses(logits, batch)
        tiny = torch.finfo(self.transition.dtype).tiny
        becomes = self.transition.clamp(min=tiny).log().T[batch.labels]
        return -(logits.log_softmax(dim=1) + becomes).logsumexp(dim=1)


def anchor_transition(probabilities: torch.Tensor, percentile: float | None) -> torch.Tensor:
    """(K, K) estimate of P(given label | true class), rows of sum 1.

    The row of a class is the prediction for its anchor: the sample in which the class is most probable,
    after those at or above a percentile of its probabilities are set aside as outliers.

    Args:
        probabilities: (N, K) predictions for the training samples.
        percentile: 0 to 100; None: no sample is set aside.
    """
    candidates = probabilities
    if percentile is not None:
        bound = probabilities.quantile(percentile / 100, dim=0, interpolation="higher")
        candidates = torch.where(probabilities < bound, probabilities, 0.0)
    rows = probabilities[candidates.argmax(dim=0)]
    return rows / rows.sum(dim=1, keepdim=True)
