"""ELR+: two networks, each held to what the other's average remembers, on mixed images (Liu et al., 2020)."""

import dataclasses
import math

import torch
import torch.nn.functional as F
from torch import nn

from cmw_pipeline.config.methods.twins import ElrPlus as Options
from cmw_pipeline.methods.base import Batch, Method, Networks, Problem, Weigh
from cmw_pipeline.methods.mixup import draw_lambda, draw_partners, mix
from cmw_pipeline.methods.parts.early_learning import early_learning
from cmw_pipeline.methods.parts.mixing import logits_in_mode
from cmw_pipeline.methods.parts.towers import tower_losses


class ElrPlus(Method):
    """For each network CE(mixed label) + r λ log(1 − <q, p>), q the mixed targets.

    ``targets`` (N, 2, K) starts at zero and averages what the *other* network's moving average says of the
    image before mixing. Both networks see the same mixed batch and step at once; the published code lets
    them take turns by epochs.
    """

    def __init__(self, options: Options, problem: Problem) -> None:
        super().__init__(options, problem)
        self.options = options
        self.targets = nn.Buffer(torch.zeros(self.num_samples, 2, self.num_classes))
        self.steps = nn.Buffer(torch.zeros(()))

    def prepare(self, batch: Batch, networks: Networks) -> Batch:
        """Ask the averages, move the targets, mix images, labels and targets alike."""
        if not self.active:
            return batch
        assert networks.teacher is not None
        self.steps.add_(1)
        said = logits_in_mode(networks.teacher, batch.images, True).softmax(dim=2).flip(1)
        targets = torch.lerp(said, self.targets[batch.rows], self.options.memory)
        self.targets[batch.rows] = targets
        device = batch.images.device
        lam, partners = draw_lambda(self.options.mixup, device), draw_partners(len(batch.labels), device)
        targets = mix(targets, partners, lam)
        labels = mix(F.one_hot(batch.labels, self.num_classes).to(targets), partners, lam)
        labels = labels[:, None].expand_as(targets)
        if self.options.refine:
            labels = labels * targets
            labels = labels / labels.sum(dim=2, keepdim=True)
        evidence = {"targets": targets, "labels": labels}
        return dataclasses.replace(batch, images=mix(batch.images, partners, lam), evidence=evidence)

    def objective(self, logits: torch.Tensor, batch: Batch, weigh: Weigh) -> torch.Tensor:
        """Sum over the networks of mean cross-entropy and ramped-up regulariser."""
        if not self.active:
            return tower_losses(logits, batch.labels).mean(dim=0).sum()
        losses = tower_losses(logits, batch.evidence["labels"])
        held = early_learning(logits, batch.evidence["targets"])
        return (losses + self._strength() * held).mean(dim=0).sum()

    def _strength(self) -> torch.Tensor:
        """The regulariser's weight at this step: λ exp(−5 (1 − t/T)²), λ from T on."""
        rest = 1 - self.steps / max(self.options.strength_ramp, 1)
        return self.options.strength * (-5 * rest.clamp(min=0) ** 2).exp()

    def teacher_decay(self, decay: float, iteration: int) -> float:
        """The recipe's decay, ramped up in the same way, or at most that of a plain mean of all steps."""
        if self.options.teacher_ramp is None:
            return min(1 - 1 / (iteration + 2), decay)
        rest = max(1 - iteration / self.options.teacher_ramp, 0.0)
        return decay * math.exp(-5 * rest**2)
