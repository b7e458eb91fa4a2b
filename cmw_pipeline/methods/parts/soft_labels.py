"""What the methods with soft labels share: a teacher's guesses, a memory of them, mixed images, the loss."""

import dataclasses

import torch
import torch.nn.functional as F
from torch import nn

from cmw_pipeline.config.methods.weighting import SoftLabels as Options
from cmw_pipeline.methods.base import Batch, Method, Networks, Problem, weighted_mean
from cmw_pipeline.methods.parts.losses import cross_entropy
from cmw_pipeline.methods.parts.mixing import draw_lambda, draw_partners, logits_in_mode


class SoftLabelled(Method):
    """v CE(given label) + (1 − v) CE(soft label), on mixed images: once for each of the two endpoints.

    The soft label is the teacher's prediction on the image before mixing, averaged over epochs with the
    share ``memory`` for what was there. The memory is ``soft_labels`` (N, K); with ``memory_top`` k it is
    ``top_labels`` and ``top_classes`` (N, k), of N x k x 4 bytes, and the mass that is left belongs to the
    other classes in equal parts.
    """

    needs_teacher = True

    def start_soft_labels(self, options: Options, normalisation: str, problem: Problem) -> None:
        """Remember the given labels."""
        self.soft_options, self.soft_normalisation = options, normalisation
        labels, classes = problem.labels, problem.num_classes
        if options.memory_top is None:
            dtype = torch.get_default_dtype()
            start = F.one_hot(labels, classes).to(dtype) if options.memory else torch.empty(0, classes)
            self.soft_labels = nn.Buffer(start)
            return
        top = min(options.memory_top, classes)
        others = torch.arange(top, device=labels.device, dtype=torch.int16)
        self.top_classes = nn.Buffer((labels.to(torch.int16)[:, None] + others) % classes)
        self.top_labels = nn.Buffer((others == 0).half().repeat(len(labels), 1))

    def recalled(self, rows: torch.Tensor) -> torch.Tensor:
        """(B, K) remembered soft labels."""
        if self.soft_options.memory_top is None:
            soft: torch.Tensor = self.get_buffer("soft_labels")[rows]
            return soft
        top = self.get_buffer("top_labels")[rows].to(torch.get_default_dtype())
        classes = self.get_buffer("top_classes")[rows]
        left, others = (1 - top.sum(dim=1, keepdim=True)).clamp(min=0), self.num_classes - top.shape[1]
        spread = (left / max(others, 1)).expand(-1, self.num_classes)
        return spread.scatter(1, classes.long(), top)

    def remember(self, rows: torch.Tensor, soft: torch.Tensor) -> None:
        """Put (B, K) soft labels into the memory."""
        if self.soft_options.memory_top is None:
            self.get_buffer("soft_labels")[rows] = soft
            return
        top, classes = soft.topk(self.get_buffer("top_labels").shape[1], dim=1)
        self.get_buffer("top_labels")[rows] = top.half()
        self.get_buffer("top_classes")[rows] = classes.to(torch.int16)

    def between_epochs(self, epoch: int, networks: Networks) -> None:
        """In the first active epoch the memory becomes the teacher's, if it is to start there."""
        options = self.soft_options
        if options.memory and options.memory_start == "teacher" and epoch == self.first_epoch:
            assert networks.teacher is not None
            soft = networks.scan(networks.teacher).softmax(dim=1)
            self.remember(torch.arange(len(soft), device=soft.device), soft)

    def prepare(self, batch: Batch, networks: Networks) -> Batch:
        """Ask the teacher, about the weak view where there are two; update the memory; mix the images."""
        if not self.active:
            return batch
        assert networks.teacher is not None
        weak = batch.views[0] if batch.views else batch.images
        soft = logits_in_mode(networks.teacher, weak, True).softmax(dim=1)
        if self.soft_options.memory:
            soft = torch.lerp(soft, self.recalled(batch.rows), self.soft_options.memory)
            self.remember(batch.rows, soft)
        device = batch.images.device
        lam, partners = draw_lambda(self.soft_options.mixup, device), draw_partners(len(batch.labels), device)
        evidence = {"soft": soft, "lam": lam, "partners": partners}
        return dataclasses.replace(batch, images=networks.mix(batch.images, partners, lam), evidence=evidence)

    def objective(self, logits: torch.Tensor, batch: Batch) -> torch.Tensor:
        """λ times the endpoint's own loss, 1 − λ times its partner's; equation (c) of the method's card."""
        if not self.active:
            return super().objective(logits, batch)
        lam, partners = batch.evidence["lam"], batch.evidence["partners"]
        own, weight = self._endpoint(logits, batch.labels, batch.evidence["soft"], None)
        permuted = weight[partners] if self.soft_options.partner_weight == "permuted" else None
        partner_soft = batch.evidence["soft"][partners]
        partner, _ = self._endpoint(logits, batch.labels[partners], partner_soft, permuted)
        return lam * own + (1 - lam) * partner

    def trust(self, losses: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """(B,) the weight of given labels, by their detached losses."""
        raise NotImplementedError

    def _endpoint(
        self, logits: torch.Tensor, labels: torch.Tensor, soft: torch.Tensor, weight: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        given = cross_entropy(logits, labels)
        if weight is None:
            weight = self.trust(given.detach(), labels)
        guessed = cross_entropy(logits, soft)
        loss = weighted_mean(given, weight, self.soft_normalisation)
        return loss + weighted_mean(guessed, 1 - weight, self.soft_normalisation), weight
