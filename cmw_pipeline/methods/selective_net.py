"""SelectiveNet: a head that selects, trained for one coverage (Geifman & El-Yaniv, ICML 2019)."""

import torch

from cmw_pipeline.config.methods.tasks import SelectiveNet as Options
from cmw_pipeline.methods.base import Batch, Method, Problem, Weigh
from cmw_pipeline.methods.parts.losses import cross_entropy


class SelectiveNet(Method):
    """α (selective risk + λ max(0, c − coverage)²) + (1 − α) the auxiliary head's cross-entropy.

    The risk is Σ g ℓ / Σ g, as in the paper; the published code leaves out the division.
    """

    def __init__(self, options: Options, problem: Problem) -> None:
        super().__init__(options, problem)
        self.coverage, self.penalty, self.share = options.coverage, options.penalty, options.share

    def losses(self, logits: torch.Tensor, batch: Batch) -> torch.Tensor:
        """(B,) cross-entropy of the prediction."""
        return cross_entropy(logits[:, : self.num_classes], batch.labels)

    def objective(self, logits: torch.Tensor, batch: Batch, weigh: Weigh) -> torch.Tensor:
        """The scalar loss of (B, 2 K + 1) logits: prediction, selection and auxiliary prediction.

        Both cross-entropies of a sample count as its prediction's does; the coverage is of all samples alike.
        """
        losses = self.losses(logits, batch)
        weights = weigh(losses, batch.labels).factors()
        losses = weights * losses
        auxiliary = (weights * cross_entropy(logits[:, self.num_classes + 1 :], batch.labels)).mean()
        if not self.active:
            return self.share * losses.mean() + (1 - self.share) * auxiliary
        selected = logits[:, self.num_classes].sigmoid()
        coverage = selected.mean()
        risk = (selected * losses).mean() / coverage
        missing = (self.coverage - coverage).clamp(min=0)
        return self.share * (risk + self.penalty * missing.square()) + (1 - self.share) * auxiliary

    def confidence(self, logits: torch.Tensor) -> torch.Tensor:
        """(B,) the logit of being selected."""
        return logits.double().logsumexp(dim=1)
