"""CMW-Net-SL: what a given label loses in weight goes to a soft label of the teacher (TPAMI 2023)."""

import dataclasses

import numpy as np
import torch
import torch.nn.functional as F

from cmw_pipeline.config.methods.weighting import CmwNetSl as Options
from cmw_pipeline.meta.class_groups import group_classes
from cmw_pipeline.methods.base import Batch, Problem, Stream, mix
from cmw_pipeline.methods.parts.mixing import draw_lambda, draw_partners
from cmw_pipeline.methods.parts.soft_labels import SoftLabelled
from cmw_pipeline.methods.parts.weight_net_method import WeightNetMethod


class CmwNetSl(SoftLabelled, WeightNetMethod):
    """Soft-labelled as its base describes, under weights that CMW-Net learns.

    With ``first`` and ``strong_view`` it is our strengthened variant: published CMW-Net-SL+ is undescribed.
    """

    starts_from_first = True

    def __init__(self, options: Options, problem: Problem) -> None:
        groups = group_classes(problem.class_counts.cpu().numpy(), options.groups)
        super().__init__(options, problem, torch.from_numpy(groups), options.groups)
        self.options = options
        self.start_soft_labels(options, options.normalisation, problem)

    def trust(self, losses: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """(B,) V(loss, group)."""
        weights: torch.Tensor = self.weight_net(losses, self.groups[labels])
        return weights

    def turns(self, epoch: int) -> list[list[Stream]]:
        """Everything; from the start epoch on in the strong and the weak view, where that is asked for."""
        if not self.options.strong_view or epoch < self.first_epoch:
            return super().turns(epoch)
        return [[Stream(np.arange(self.num_samples), views=("strong", "weak"))]]

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
