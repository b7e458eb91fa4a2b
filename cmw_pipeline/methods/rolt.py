"""RoLT: distance to a prototype tells wrong labels also in rare classes, where the loss fails (2021)."""

import torch
import torch.nn.functional as F
from torch import nn

from cmw_pipeline.config.methods.mixtures import Rolt as Options
from cmw_pipeline.methods.base import Batch, Method, Networks, Problem
from cmw_pipeline.methods.parts.losses import cross_entropy, hits
from cmw_pipeline.methods.parts.mixtures import low_loss_posterior, min_max
from cmw_pipeline.models.trunk import WithFeatures

_FARTHEST = 4.0
_FEWEST = 3


class Rolt(Method):
    """Clean samples keep their label, the others get 0.4 e_a + 0.2 e_b + 0.2 e_y + 0.2/K.

    Before each epoch every class is split in two by the distance of its samples to its prototype. a is the
    class of the largest logit, b that of the nearest prototype, by running means over the epochs,
    ``mean_logits`` and ``mean_distances`` (N, K). The published code multiplies a correction of the start
    into the stored means anew in every epoch; here they start at their first values. The form that freezes
    the labels in the end and weighs classes by them is not here; class-balanced weights are a weighting.
    """

    def __init__(self, options: Options, problem: Problem) -> None:
        super().__init__(options, problem)
        self.memory = options.memory
        self.given = nn.Buffer(problem.labels, persistent=False)
        self.mean_logits = nn.Buffer(torch.zeros(self.num_samples, self.num_classes))
        self.mean_distances = nn.Buffer(torch.zeros(self.num_samples, self.num_classes))
        self.targets = nn.Buffer(F.one_hot(problem.labels, self.num_classes).to(self.mean_logits))

    def between_epochs(self, epoch: int, networks: Networks) -> None:
        """Look at all features, split, and guess."""
        seen = networks.scan(WithFeatures(networks.student)).to(self.targets)
        logits, features = seen[:, : self.num_classes], seen[:, self.num_classes :]
        clean, distances = split_by_prototypes(features, self.given, self.num_classes)
        news = 1.0 if epoch == 0 else 1 - self.memory
        self.mean_logits.lerp_(logits, news)
        self.mean_distances.lerp_(distances, news)
        label, largest, nearest = (
            hits(logits, classes).to(logits)
            for classes in (self.given, self.mean_logits.argmax(dim=1), self.mean_distances.argmin(dim=1))
        )
        soft = 0.4 * largest + 0.2 * nearest + 0.2 * label + 0.2 / self.num_classes
        self.targets.copy_(torch.where(clean[:, None], label, soft))

    def losses(self, logits: torch.Tensor, batch: Batch) -> torch.Tensor:
        """(B,) cross-entropy with the target; before the start with the given label."""
        return cross_entropy(logits, self.targets[batch.rows] if self.active else batch.labels)


def split_by_prototypes(
    features: torch.Tensor, labels: torch.Tensor, num_classes: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Which labels are clean, (N,) bool, and (N, K) squared distances to the prototypes.

    Prototypes are means over a class, and then over its clean part. Features (N, F) are centred and of
    length one.
    """
    unit = F.normalize(features - features.mean(dim=0))
    clean = torch.ones_like(labels, dtype=torch.bool)
    for _ in range(2):
        distances = _distances(unit, labels, clean, num_classes)
        own = distances.gather(1, labels[:, None])[:, 0]
        clean = torch.empty_like(clean)
        for label in range(num_classes):
            clean[labels == label] = near(own[labels == label])
    return clean, distances


def near(distances: torch.Tensor) -> torch.Tensor:
    """(n,) bool: the nearer of two Gaussians on a class's distances, scaled to [0, 1]; all where none is."""
    if len(distances) < _FEWEST or distances.min() == distances.max():
        return torch.ones_like(distances, dtype=torch.bool)
    posterior = low_loss_posterior(min_max(distances), steps=100, tolerance=1e-3, floor=1e-6)
    chosen = torch.from_numpy(posterior > 0.5).to(distances.device)
    return chosen if chosen.any() else torch.ones_like(chosen)


def _distances(
    unit: torch.Tensor, labels: torch.Tensor, clean: torch.Tensor, num_classes: int
) -> torch.Tensor:
    """(N, K), as far as can be to a class without samples."""
    members = (hits(unit.new_empty(num_classes), labels) & clean[:, None]).to(unit)
    sizes = members.sum(dim=0)
    prototypes = members.T @ unit / sizes.clamp(min=1)[:, None]
    distances = torch.cdist(unit, prototypes).square()
    return distances.masked_fill(sizes == 0, _FARTHEST)
