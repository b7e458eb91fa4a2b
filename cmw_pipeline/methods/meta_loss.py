"""The meta loss: by what a weighting is judged after its virtual step. With labels, or without any."""

import dataclasses
from typing import TYPE_CHECKING, ClassVar

import torch
import torch.nn.functional as F

from cmw_pipeline.config.weightings import MetaLearned, WeightingBase
from cmw_pipeline.methods.mixup import draw_lambda, draw_partners, mix

if TYPE_CHECKING:
    from cmw_pipeline.methods.base import Batch

SHARPENING = 4.0
"""DAC-MR's inverse temperature of the prediction on the weak view."""
TEMPERATURE = 0.5
"""CLID-MU's, of the cosines between features."""
_FLOOR = 1e-7


class MetaLoss:
    """Mean cross-entropy with the labels of the meta batch, mixed up where ``meta_mixup`` asks for that."""

    reads_features: ClassVar[bool] = False
    """Whether ``evidence`` has to hold ``features``: (M, F) of the meta batch, detached."""

    def __init__(self, mixup: float = 0.0) -> None:
        self.mixup = mixup

    @property
    def divisible(self) -> bool:
        """Whether several processes can share a meta batch."""
        return not self.mixup

    def prepare(self, batch: "Batch") -> "Batch":
        """The meta batch as the network sees it."""
        if not self.mixup:
            return batch
        device = batch.images.device
        lam, partners = draw_lambda(self.mixup, device), draw_partners(len(batch.labels), device)
        evidence = {"lam": lam, "partners": partners}
        return dataclasses.replace(batch, images=mix(batch.images, partners, lam), evidence=evidence)

    def of(self, logits: torch.Tensor, batch: "Batch") -> torch.Tensor:
        """The scalar meta loss of what the network predicts, (M, K), after the virtual step."""
        own = F.cross_entropy(logits, batch.labels)
        if not batch.evidence:
            return own
        lam, partners = batch.evidence["lam"], batch.evidence["partners"]
        return lam * own + (1 - lam) * F.cross_entropy(logits, batch.labels[partners])


class DacMr(MetaLoss):
    """DAC-MR (Shu, Yuan, Meng and Xu, arXiv 2305.07892): two views of a picture are predicted alike."""

    divisible = False

    def prepare(self, batch: "Batch") -> "Batch":
        """One batch of 2M pictures: all in their first view, then all in their second."""
        return dataclasses.replace(batch, images=torch.cat([batch.images, *batch.views]))

    def of(self, logits: torch.Tensor, batch: "Batch") -> torch.Tensor:
        """Of (2M, K): mean KL of the sharpened prediction on the first view and that on the second."""
        return consistency(*logits.chunk(2))


class ClidMu(MetaLoss):
    """CLID-MU (Hu et al., KDD 2025): what is alike in its features is predicted alike."""

    divisible = False
    reads_features = True

    def of(self, logits: torch.Tensor, batch: "Batch") -> torch.Tensor:
        """Of (M, K), beside the features that they were made from."""
        return divergence_of_neighbours(logits, batch.evidence["features"])


def consistency(weak: torch.Tensor, strong: torch.Tensor) -> torch.Tensor:
    """Mean KL(softmax(4 z_weak) | softmax(z_strong)) of (M, K) logits; no gradient through the first."""
    target = (SHARPENING * weak.detach()).log_softmax(dim=1)
    return F.kl_div(strong.log_softmax(dim=1), target, reduction="batchmean", log_target=True)


def divergence_of_neighbours(logits: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
    """CLID: mean_i Σ_j W_ij (−log S_ij), small where near samples are predicted alike.

    S is the row-wise softmax of the positive parts of cos(f_i, f_j)/τ, W_ij that of cos(p_i, p_j) in its row
    sum, which has no gradient. As in the published code a sample is its own neighbour, too.

    Args:
        logits: (M, K), the only way of the gradient.
        features: (M, F), detached.
    """
    near = F.normalize(features.flatten(1))
    log_similar = -((near @ near.T / TEMPERATURE).clamp(min=0).softmax(dim=1) + _FLOOR).log()
    said = F.normalize(logits.softmax(dim=1))
    alike = said @ said.T
    return (alike / alike.detach().sum(dim=1, keepdim=True) * log_similar).sum(dim=1).mean()


def meta_loss(options: WeightingBase) -> MetaLoss:
    """The meta loss that a weighting asks for; one that learns nothing has the plain one."""
    if not isinstance(options, MetaLearned):
        return MetaLoss()
    kinds = {"labels": MetaLoss, "dac-mr": DacMr, "clid-mu": ClidMu}
    return kinds[options.meta_loss](options.meta_mixup)
