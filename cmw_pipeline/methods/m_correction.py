"""M-correction: mixup with labels corrected by a Beta mixture on the losses (Arazo et al., ICML 2019)."""

import dataclasses

import torch
import torch.nn.functional as F
from torch import nn

from cmw_pipeline.config.methods.mixtures import MCorrection as Options
from cmw_pipeline.methods.base import Batch, Method, Networks, Problem, Weigh
from cmw_pipeline.methods.mixup import draw_lambda, draw_partners, mix
from cmw_pipeline.methods.parts.losses import cross_entropy
from cmw_pipeline.methods.parts.mixing import divergence_from_uniform, logits_in_mode
from cmw_pipeline.methods.parts.mixtures import beta_table, trimmed_range, unit


class MCorrection(Method):
    """A label that is wrong with probability B becomes (1 − B) label + B prediction; mixup on top.

    ``table`` holds B by scaled loss, fitted before each epoch; the losses it is fitted to are those of the
    training set without augmentation, where the published code augments. A batch's B comes from its own
    losses in evaluation mode, its predictions from a pass in training mode.
    """

    def __init__(self, options: Options, problem: Problem) -> None:
        super().__init__(options, problem)
        self.options = options
        self.guided = self.corrects = False
        self.labels = nn.Buffer(problem.labels, persistent=False)
        self.table = nn.Buffer(torch.zeros(options.bins))
        self.bounds = nn.Buffer(torch.tensor([0.0, 1.0]))
        self.temperature = nn.Buffer(torch.ones(()), persistent=False)

    def begin_epoch(self, epoch: int) -> None:
        """Plain mixup first, then mixing guided by B where asked, then corrected labels."""
        super().begin_epoch(epoch)
        o = self.options
        self.guided = self.active and o.guided_epoch is not None and epoch >= o.guided_epoch
        self.corrects = self.active and epoch >= o.bootstrap_epoch
        done = (epoch - o.bootstrap_epoch) / max(o.temperature_epochs - 1, 1)
        self.temperature.fill_(1 + min(max(done, 0), 1) * (o.last_temperature - 1))

    def between_epochs(self, epoch: int, networks: Networks) -> None:
        """Fit the mixture to the losses of all training samples."""
        if not (self.guided or self.corrects):
            return
        losses = cross_entropy(networks.scan(networks.student), self.labels)
        low, high = trimmed_range(losses, self.options.tail)
        table = beta_table(losses, low, high, self.options.em_steps, self.options.bins)
        self.bounds.copy_(torch.tensor([low, high]))
        self.table.copy_(torch.from_numpy(table))

    def prepare(self, batch: Batch, networks: Networks) -> Batch:
        """Mix images and targets; before that, correct the targets where it is time."""
        if not self.active:
            return batch
        device, student = batch.images.device, networks.student
        lam, partners = draw_lambda(self.options.mixup, device), draw_partners(len(batch.labels), device)
        images = mix(batch.images, partners, lam)
        targets = F.one_hot(batch.labels, self.num_classes).to(images.dtype)
        if self.guided or self.corrects:
            wrong = self._wrong(cross_entropy(logits_in_mode(student, batch.images, False), batch.labels))
        if self.guided:
            right = 1 - wrong
            share = right / (right + right[partners])
            images = mix(batch.images, partners, share[:, None, None, None])
        if self.corrects:
            targets = torch.lerp(targets, self._guess(student, batch.images), wrong[:, None])
            lam = torch.full_like(lam, 0.5) if self.options.targets == "annealed" else lam
        evidence = {"targets": mix(targets, partners, lam)}
        return dataclasses.replace(batch, images=images, evidence=evidence)

    def _wrong(self, losses: torch.Tensor) -> torch.Tensor:
        """(B,) probability that the label is wrong, from the loss in evaluation mode."""
        place = (unit(losses, *self.bounds) * self.options.bins).long()
        return self.table[place.clamp(max=self.options.bins - 1)].clamp(1e-4, 1 - 1e-4)

    def _guess(self, student: nn.Module, images: torch.Tensor) -> torch.Tensor:
        logits = logits_in_mode(student, images, True)
        if self.options.targets == "hard":
            return F.one_hot(logits.argmax(dim=1), self.num_classes).to(logits.dtype)
        if self.options.targets == "soft":
            return logits.softmax(dim=1)
        return (logits / self.temperature).softmax(dim=1)

    def weights(self, losses: torch.Tensor, batch: Batch) -> torch.Tensor:
        """(B,) probability that the label is right; what a given label counts for."""
        return 1 - self._wrong(losses)

    def objective(self, logits: torch.Tensor, batch: Batch, weigh: Weigh) -> torch.Tensor:
        """Cross-entropy with the mixed targets, and the penalty on lopsided predictions."""
        if not self.active:
            return F.cross_entropy(logits, batch.labels)
        loss = F.cross_entropy(logits, batch.evidence["targets"])
        if not self.corrects:
            return loss
        return loss + self.options.prior_penalty * divergence_from_uniform(logits)
