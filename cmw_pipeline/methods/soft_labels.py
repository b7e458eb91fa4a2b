"""Soft labels: what a given label loses in weight goes to a teacher's guess (Shu et al., TPAMI 2023).

Under CMW-Net's weights it is CMW-Net-SL, under a frozen function what the paper transfers to WebVision.
"""

import dataclasses

import numpy as np
import torch

from cmw_pipeline.config.methods.learned_labels import SoftLabels as Options
from cmw_pipeline.methods.base import Batch, Method, Networks, Problem, Stream, Weigh, Weights
from cmw_pipeline.methods.mixup import draw_lambda, draw_partners
from cmw_pipeline.methods.parts.label_memory import LabelMemory, TopMemory
from cmw_pipeline.methods.parts.losses import cross_entropy
from cmw_pipeline.methods.parts.mixing import logits_in_mode


class SoftLabels(Method):
    """v CE(given label) + (1 − v) CE(soft label), on mixed images: once for each of the two endpoints.

    The soft label is the teacher's prediction on the image before mixing, averaged over epochs with the
    share ``memory`` for what was there.
    """

    def __init__(self, options: Options, problem: Problem) -> None:
        super().__init__(options, problem)
        self.options = options
        self.memory: LabelMemory | TopMemory | None = None
        if options.memory and options.memory_top is None:
            self.memory = LabelMemory(problem.labels, self.num_classes)
        elif options.memory and options.memory_top is not None:
            self.memory = TopMemory(problem.labels, self.num_classes, options.memory_top)

    def between_epochs(self, epoch: int, networks: Networks) -> None:
        """In the first active epoch the memory becomes the teacher's, if it is to start there."""
        if self.memory is not None and self.options.memory_start == "teacher" and epoch == self.first_epoch:
            assert networks.teacher is not None
            soft = networks.scan(networks.teacher).softmax(dim=1)
            self.memory.remember(torch.arange(len(soft), device=soft.device), soft)

    def turns(self, epoch: int) -> list[list[Stream]]:
        """Everything; from the start epoch on in the strong and the weak view, where that is asked for."""
        if not self.options.strong_view or epoch < self.first_epoch:
            return super().turns(epoch)
        return [[Stream(np.arange(self.num_samples), views=("strong", "weak"))]]

    def prepare(self, batch: Batch, networks: Networks) -> Batch:
        """Ask the teacher, about the weak view where there are two; update the memory; mix the images."""
        if not self.active:
            return batch
        assert networks.teacher is not None
        weak = batch.views[0] if batch.views else batch.images
        soft = logits_in_mode(networks.teacher, weak, True).softmax(dim=1)
        if self.memory is not None:
            soft = torch.lerp(soft, self.memory.recall(batch.rows), self.options.memory)
            self.memory.remember(batch.rows, soft)
        device = batch.images.device
        lam, partners = draw_lambda(self.options.mixup, device), draw_partners(len(batch.labels), device)
        evidence = {"soft": soft, "lam": lam, "partners": partners}
        return dataclasses.replace(batch, images=networks.mix(batch.images, partners, lam), evidence=evidence)

    def objective(self, logits: torch.Tensor, batch: Batch, weigh: Weigh) -> torch.Tensor:
        """λ times the endpoint's own loss, 1 − λ times its partner's.

        By default the partner's label has a weight of its own, by its loss on this image; ``permuted`` gives
        it the weight that it has on its own image.
        """
        if not self.active:
            return super().objective(logits, batch, weigh)
        lam, partners, soft = (batch.evidence[name] for name in ("lam", "partners", "soft"))
        given = cross_entropy(logits, batch.labels)
        weights = weigh(given, batch.labels)
        own = _split(given, cross_entropy(logits, soft), weights)
        labels = batch.labels[partners]
        given = cross_entropy(logits, labels)
        permuted = self.options.partner_weight == "permuted"
        weights = weights.of(partners) if permuted else weigh(given, labels)
        return lam * own + (1 - lam) * _split(given, cross_entropy(logits, soft[partners]), weights)

    def begin_epoch(self, epoch: int) -> None:
        """Note whether the teacher still moves."""
        super().begin_epoch(epoch)
        until = self.options.teacher_until
        self.teacher_stands = until is not None and epoch >= until

    def teacher_decay(self, decay: float, iteration: int) -> float:
        """The teacher stands still from the epoch ``teacher_until`` on."""
        return 1.0 if self.teacher_stands else decay


def _split(given: torch.Tensor, guessed: torch.Tensor, weights: Weights) -> torch.Tensor:
    """Scalar: (B,) losses of the given labels by their weights, of the guessed ones by the rest."""
    return weights.mean(given) + weights.rest.mean(guessed)
