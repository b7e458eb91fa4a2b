"""SelectiveNet: a head that selects, trained for one coverage (Geifman & El-Yaniv, ICML 2019)."""

import torch

from cmw_pipeline.config.methods.tasks import SelectiveNetCmw as CmwOptions
from cmw_pipeline.config.methods.tasks import SelectiveNetOptions as Options
from cmw_pipeline.methods.base import Batch, Method, Problem
from cmw_pipeline.methods.parts.losses import cross_entropy
from cmw_pipeline.methods.parts.weighted import Weighted


class SelectiveNet(Method):
    """α (selective risk + λ max(0, c − coverage)²) + (1 − α) the auxiliary head's cross-entropy.

    The risk is Σ g ℓ / Σ g, as in the paper; the published code leaves out the division.
    """

    head = "select"
    steady = True

    def __init__(self, options: Options, problem: Problem) -> None:
        super().__init__(options, problem)
        self.coverage, self.penalty, self.share = options.coverage, options.penalty, options.share

    def losses(self, logits: torch.Tensor, batch: Batch) -> torch.Tensor:
        """(B,) cross-entropy of the prediction."""
        return cross_entropy(logits[:, : self.num_classes], batch.labels)

    def objective(self, logits: torch.Tensor, batch: Batch) -> torch.Tensor:
        """Of (B, 2 K + 1): prediction, selection and auxiliary prediction."""
        return self.weighted_objective(logits, batch, torch.ones(len(logits), device=logits.device))

    def weighted_objective(self, logits: torch.Tensor, batch: Batch, weights: torch.Tensor) -> torch.Tensor:
        """The same with ℓ and the auxiliary cross-entropy of each sample times its weight, (B,)."""
        losses = weights * self.losses(logits, batch)
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


class SelectiveNetCmw(Weighted):
    """The same with CMW-Net's weights on both cross-entropies; the coverage is of all samples alike."""

    base: SelectiveNet

    def __init__(self, options: CmwOptions, problem: Problem) -> None:
        super().__init__(options, problem, SelectiveNet(options, problem))

    def objective(self, logits: torch.Tensor, batch: Batch) -> torch.Tensor:
        """Of (B, 2 K + 1); where it is normalised by the sum, the weights have the mean 1."""
        if not self.active:
            return self.base.objective(logits, batch)
        weights = self.weights(self.losses(logits, batch).detach(), batch)
        if self.normalisation == "sum":
            mean = weights.detach().mean()
            weights = weights / torch.where(mean > 0, mean, 1.0)
        return self.base.weighted_objective(logits, batch, weights)
