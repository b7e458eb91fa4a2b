"""After REED: a SimCLR probe finds the labels to trust, MixMatch trains on them (arXiv 2011.08145); ours."""

import dataclasses

import torch
import torch.nn.functional as F
from torch import nn

from cmw_pipeline.config.methods.self_supervised import ReedLike as Options
from cmw_pipeline.methods.base import Batch, Method, Networks, Problem, Stream, Weigh
from cmw_pipeline.methods.mixup import draw_lambda, draw_partners, mix
from cmw_pipeline.methods.parts.losses import cross_entropy
from cmw_pipeline.methods.parts.mixing import divergence_from_uniform, sharpen, train_mode_logits
from cmw_pipeline.methods.parts.mixtures import low_loss_posterior, min_max, split


class ReedLike(Method):
    """MixMatch with one network; ``posterior`` (N,) that a label is right, once and for all by the probe."""

    def __init__(self, options: Options, problem: Problem) -> None:
        super().__init__(options, problem)
        self.options = options
        posterior = torch.ones(self.num_samples)
        if problem.first_logits is not None:
            losses = min_max(cross_entropy(problem.first_logits, problem.labels))
            found = low_loss_posterior(losses, options.gmm_steps, options.gmm_tolerance, options.gmm_floor)
            posterior = torch.from_numpy(found).float()
        self.posterior = nn.Buffer(posterior)
        self.ramp = nn.Buffer(torch.zeros(()))

    def begin_epoch(self, epoch: int) -> None:
        """Set how far the guessed labels' weight has grown."""
        super().begin_epoch(epoch)
        self.ramp.fill_(min(max(epoch - self.first_epoch, 0) / self.options.ramp_epochs, 1.0))

    def turns(self, epoch: int) -> list[list[Stream]]:
        """Trusted samples, and others as many, in two views; everything before the start epoch."""
        if epoch < self.first_epoch:
            return super().turns(epoch)
        parts = split(self.posterior.double().cpu().numpy(), self.options.threshold)
        return [[Stream(rows, self.options.batch_size, ("weak", "weak")) for rows in parts]]

    def prepare(self, batch: Batch, networks: Networks) -> Batch:
        """Refine trusted labels by their posterior, guess the others, and mix all views of all samples."""
        if not self.active:
            return batch
        (rest,) = batch.others
        shown, hidden = (batch.images, *batch.views), (rest.images, *rest.views)
        guesses = train_mode_logits(networks.student, torch.cat([*shown, *hidden])).softmax(dim=1)
        of_shown, of_hidden = guesses[: 2 * len(batch.rows)], guesses[2 * len(batch.rows) :]
        given = F.one_hot(batch.labels, self.num_classes).to(guesses.dtype)
        trust = self.posterior[batch.rows][:, None]
        refined = torch.lerp(of_shown.view(2, -1, self.num_classes).mean(dim=0), given, trust)
        guessed = of_hidden.view(2, -1, self.num_classes).mean(dim=0)
        labelled, unlabelled = (sharpen(p, self.options.temperature) for p in (refined, guessed))
        images = torch.cat([*shown, *hidden])
        targets = torch.cat([labelled, labelled, unlabelled, unlabelled])
        lam = draw_lambda(self.options.mixup, images.device)
        partners = draw_partners(len(images), images.device)
        evidence = {"targets": mix(targets, partners, lam)}
        return dataclasses.replace(batch, images=mix(images, partners, lam), evidence=evidence)

    def weights(self, losses: torch.Tensor, batch: Batch) -> torch.Tensor:
        """(B,) probability that the label is right."""
        return self.posterior[batch.rows]

    def objective(self, logits: torch.Tensor, batch: Batch, weigh: Weigh) -> torch.Tensor:
        """Cross-entropy of the trusted part, squared error of the guessed one, and the penalty."""
        if not self.active:
            return self.losses(logits, batch).mean()
        targets, count = batch.evidence["targets"], 2 * len(batch.labels)
        trusted = F.cross_entropy(logits[:count], targets[:count])
        guessed = (logits[count:].softmax(dim=1) - targets[count:]).square().mean()
        penalty = self.options.prior_penalty * divergence_from_uniform(logits)
        return trusted + self.options.lambda_u * self.ramp * guessed + penalty
