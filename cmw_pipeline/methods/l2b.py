"""L2B: the given label and the network's own guess have a loss each, and a weight (Zhou et al., 2024)."""

import torch

from cmw_pipeline.methods.base import Batch, Method, Weigh
from cmw_pipeline.methods.parts.losses import cross_entropy


class L2b(Method):
    """Σ_i w_i CE(y_i) + w'_i CE(h_i), h the class that is predicted, both of one pass in training mode.

    Learning to bootstrap is this under L2RW: 2B weights from one meta step, none below zero, summing to one,
    those of a sample to anything. Under another weighting w is that of the loss and class of y, w' that of h;
    where all count alike it is hard bootstrapping at a half.
    """

    def objective(self, logits: torch.Tensor, batch: Batch, weigh: Weigh) -> torch.Tensor:
        """The weighted mean of the 2B losses; before the start of the labels' B."""
        if not self.active:
            return super().objective(logits, batch, weigh)
        labels = torch.cat([batch.labels, logits.detach().argmax(dim=1)])
        losses = cross_entropy(logits.repeat(2, 1), labels)
        return weigh(losses, labels).mean(losses)

    def theta(self, batch: Batch) -> list[torch.Tensor]:
        """What a weighting learns of 2B losses; one that corrects each looks at nothing but their number."""
        return self.weighting.theta(batch.labels.repeat(2))
