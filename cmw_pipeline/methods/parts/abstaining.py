"""What the methods with an output to abstain share."""

import torch

from cmw_pipeline.methods.base import Batch, Method
from cmw_pipeline.methods.parts.losses import cross_entropy


class Abstaining(Method):
    """Logits of K classes and of abstaining while training; plain cross-entropy of the K at first."""

    def losses(self, logits: torch.Tensor, batch: Batch) -> torch.Tensor:
        """(B,) of (B, K + 1) logits."""
        if not self.active:
            return cross_entropy(logits[:, : self.num_classes], batch.labels)
        return self.bets(logits, batch)

    def bets(self, logits: torch.Tensor, batch: Batch) -> torch.Tensor:
        """(B,) the method's own losses of (B, K + 1) logits, the last of which abstains."""
        raise NotImplementedError

    def confidence(self, logits: torch.Tensor) -> torch.Tensor:
        """(B,) log of (1 - p) / p, p the probability of abstaining."""
        return logits.double().logsumexp(dim=1)
