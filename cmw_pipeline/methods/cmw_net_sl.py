"""CMW-Net-SL: what a given label loses in weight goes to a soft label of the teacher (TPAMI 2023)."""

import dataclasses

import numpy as np
import torch
import torch.nn.functional as F

from cmw_pipeline.config.methods.weighting import CmwNetSl as Options
from cmw_pipeline.meta.class_groups import group_classes
from cmw_pipeline.methods.base import Batch, Networks, Problem, Stream, weighted_mean
from cmw_pipeline.methods.losses import cross_entropy
from cmw_pipeline.methods.mixing import draw_lambda, draw_partners, mix, train_mode_logits
from cmw_pipeline.methods.weight_net_method import WeightNetMethod


class CmwNetSl(WeightNetMethod):
    """v CE(given label) + (1 − v) CE(soft label), on mixed images: once for each of the two endpoints.

    The soft label is the teacher's prediction on the image before mixing, averaged over epochs in
    ``soft_labels`` (N, K) with the share ``memory`` for what was there.

    With ``first`` and ``strong_view`` it is our strengthened variant: published CMW-Net-SL+ is undescribed.
    """

    needs_teacher = True
    starts_from_first = True

    def __init__(self, options: Options, problem: Problem) -> None:
        groups = group_classes(problem.class_counts.cpu().numpy(), options.groups)
        super().__init__(options, problem, torch.from_numpy(groups), options.groups)
        self.options = options
        self.soft_labels: torch.Tensor
        start = F.one_hot(problem.labels, problem.num_classes).float()
        self.register_buffer("soft_labels", start if options.memory else torch.empty(0, problem.num_classes))

    def between_epochs(self, epoch: int, networks: Networks) -> None:
        """In the first active epoch the memory becomes the teacher's, if it is to start there."""
        if self.options.memory and self.options.memory_start == "teacher" and epoch == self.first_epoch:
            assert networks.teacher is not None
            self.soft_labels.copy_(networks.scan(networks.teacher).softmax(dim=1))

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
        soft = train_mode_logits(networks.teacher, weak).softmax(dim=1)
        if self.options.memory:
            soft = torch.lerp(soft, self.soft_labels[batch.rows], self.options.memory)
            self.soft_labels[batch.rows] = soft
        device = batch.images.device
        lam, partners = draw_lambda(self.options.mixup, device), draw_partners(len(batch.labels), device)
        evidence = {"soft": soft, "lam": lam, "partners": partners}
        return dataclasses.replace(batch, images=mix(batch.images, partners, lam), evidence=evidence)

    def objective(self, logits: torch.Tensor, batch: Batch) -> torch.Tensor:
        """λ times the endpoint's own loss, 1 − λ times its partner's; equation (c) of the method's card."""
        if not self.active:
            return super().objective(logits, batch)
        lam, partners = batch.evidence["lam"], batch.evidence["partners"]
        own, weight = self._endpoint(logits, batch.labels, batch.evidence["soft"], None)
        permuted = weight[partners] if self.options.partner_weight == "permuted" else None
        partner_soft = batch.evidence["soft"][partners]
        partner, _ = self._endpoint(logits, batch.labels[partners], partner_soft, permuted)
        return lam * own + (1 - lam) * partner

    def _endpoint(
        self, logits: torch.Tensor, labels: torch.Tensor, soft: torch.Tensor, weight: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        given = cross_entropy(logits, labels)
        if weight is None:
            weight = self.weight_net(given.detach(), self.groups[labels])
        guessed = cross_entropy(logits, soft)
        loss = weighted_mean(given, weight, self.normalisation)
        return loss + weighted_mean(guessed, 1 - weight, self.normalisation), weight

    def prepare_meta(self, batch: Batch) -> Batch:
        """Mix the meta batch, where asked."""
        if not self.options.meta_mixup:
            return batch
        device = batch.images.device
        lam, partners = (
            draw_lambda(self.options.meta_mixup, device),
            draw_partners(len(batch.labels), device),
        )
        evidence = {"lam": lam, "partners": partners}
        return dataclasses.replace(batch, images=mix(batch.images, partners, lam), evidence=evidence)

    def meta_objective(self, logits: torch.Tensor, batch: Batch) -> torch.Tensor:
        """Cross-entropy with the trustworthy labels, mixed as the images were."""
        own = F.cross_entropy(logits, batch.labels)
        if not batch.evidence:
            return own
        lam = batch.evidence["lam"]
        return lam * own + (1 - lam) * F.cross_entropy(logits, batch.labels[batch.evidence["partners"]])

    def teacher_decay(self, decay: float, iteration: int) -> float:
        """The teacher stands still from the epoch ``teacher_until`` on."""
        return 1.0 if self.teacher_stands else decay

    def begin_epoch(self, epoch: int) -> None:
        """Note whether the teacher still moves."""
        super().begin_epoch(epoch)
        until = self.options.teacher_until
        self.teacher_stands = until is not None and epoch >= until
