"""DivideMix: two networks split the data for each other (Li et al., ICLR 2020); AugDesc, C2D by options."""

import dataclasses

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from cmw_pipeline.config.methods.mixtures import DivideMix as Options
from cmw_pipeline.methods.base import Batch, Method, Networks, Problem, Stream, View, Weigh
from cmw_pipeline.methods.mixup import draw_lambda, draw_partners, mix
from cmw_pipeline.methods.parts.losses import cross_entropy
from cmw_pipeline.methods.parts.mixing import divergence_from_uniform, logits_in_mode, sharpen
from cmw_pipeline.methods.parts.mixtures import low_loss_posterior, min_max, split


class DivideMix(Method):
    """Each network has a turn of the epoch. What the *other* one finds probably right is labelled for it.

    ``posteriors`` (2, N) is each network's probability that a label is right: of the lower component of a
    Gaussian mixture on its losses. Both are refitted before the epoch; C2D's code refits the second
    network's split after the first one's turn.
    """

    def __init__(self, options: Options, problem: Problem) -> None:
        super().__init__(options, problem)
        self.options = options
        self.labels = nn.Buffer(problem.labels, persistent=False)
        self.posteriors = nn.Buffer(torch.ones(2, self.num_samples))
        self.past_losses = nn.Buffer(torch.zeros(2, options.history, self.num_samples))
        self.position = nn.Buffer(torch.zeros(2))  # epochs since the warm-up, each network's
        self.pace = nn.Buffer(torch.zeros(2))  # epochs a step

    def between_epochs(self, epoch: int, networks: Networks) -> None:
        """Let both networks judge all labels."""
        if not self.active:
            return
        o, since = self.options, epoch - self.first_epoch
        for number in range(2):
            losses = cross_entropy(networks.scan(_tower(networks.student, number)), self.labels)
            past = self.past_losses[number].roll(1, dims=0)
            past[0] = min_max(losses)
            self.past_losses[number] = past
            recent = past[: since + 1].mean(dim=0)
            posterior = low_loss_posterior(recent, o.gmm_steps, o.gmm_tolerance, o.gmm_floor)
            self.posteriors[number] = torch.from_numpy(posterior)
        for number in range(2):
            count = len(self._split(number)[0])
            self.pace[number] = 1 / (count // min(count, o.batch_size))
        self.position.fill_(since)

    def _split(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Labelled and unlabelled rows of a network: by the other one's posteriors."""
        return split(self.posteriors[1 - number].double().cpu().numpy(), self.options.threshold)

    def turns(self, epoch: int) -> list[list[Stream]]:
        """A turn for each network: in the warm-up on all samples, then on labelled and unlabelled ones."""
        if not self.active:
            everything = np.arange(self.num_samples)
            return [[Stream(everything, views=(self.options.warmup_view,))] for _ in range(2)]
        views: tuple[View, ...] = ("weak", "weak")
        if self.options.gradient_views == "strong":
            views += ("strong", "strong")
        size = self.options.batch_size
        return [[Stream(rows, size, views) for rows in self._split(number)] for number in range(2)]

    def prepare(self, batch: Batch, networks: Networks) -> Batch:
        """Guess the unlabelled samples' targets together, refine the labelled ones', and mix them all.

        The network whose turn it is guesses in training mode and the statistics of its batch norm move; the
        other one is in evaluation mode. Guesses are made on the first two views, the last two are mixed.
        """
        if not self.active:
            return batch
        own, peer = (_tower(networks.student, number) for number in (batch.turn, 1 - batch.turn))
        (rest,) = batch.others
        shown, hidden = (batch.images, *batch.views), (rest.images, *rest.views)
        guess = (_predict(own, hidden[:2], True) + _predict(peer, hidden[:2], False)) / 2
        given = F.one_hot(batch.labels, self.num_classes).to(guess.dtype)
        trust = self.posteriors[1 - batch.turn][batch.rows][:, None]
        refined = torch.lerp(_predict(own, shown[:2], True), given, trust)
        labelled, unlabelled = (sharpen(p, self.options.temperature) for p in (refined, guess))
        images = torch.cat([*shown[-2:], *hidden[-2:]])
        targets = torch.cat([labelled, labelled, unlabelled, unlabelled])
        lam = draw_lambda(self.options.mixup, images.device)
        partners = draw_partners(len(images), images.device)
        kept = len(images) if self.options.trains_on == "all" else 2 * len(batch.labels)
        evidence = {
            "targets": mix(targets, partners, lam)[:kept],
            "lambda_u": self.options.lambda_u * self._ramp(batch.turn),
        }
        return dataclasses.replace(batch, images=mix(images, partners, lam)[:kept], evidence=evidence)

    def _ramp(self, number: int) -> torch.Tensor:
        """Scalar from 0 to 1 over the ramp; moves on by one step."""
        ramp = (self.position[number] / self.options.ramp_epochs).clamp(0, 1)
        self.position[number] += self.pace[number]
        return ramp

    def logits(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        """(B, K) of the network whose turn it is."""
        logits: torch.Tensor = _tower(model, batch.turn)(batch.images)
        return logits

    def weights(self, losses: torch.Tensor, batch: Batch) -> torch.Tensor:
        """(B,) probability that the label is right, the mean of both networks'."""
        return self.posteriors.mean(dim=0)[batch.rows]

    def objective(self, logits: torch.Tensor, batch: Batch, weigh: Weigh) -> torch.Tensor:
        """Cross-entropy of the labelled part, squared error of the unlabelled one, and the penalty."""
        o = self.options
        if not self.active:
            log_p = logits.log_softmax(dim=1)
            negative_entropy = (log_p.exp() * log_p).sum(dim=1).mean()
            return F.cross_entropy(logits, batch.labels) + o.confidence_penalty * negative_entropy
        targets, count = batch.evidence["targets"], 2 * len(batch.labels)
        loss = F.cross_entropy(logits[:count], targets[:count])
        loss = loss + o.prior_penalty * divergence_from_uniform(logits)
        if len(logits) == count:
            return loss
        error = (logits[count:].softmax(dim=1) - targets[count:]).square().mean()
        return loss + batch.evidence["lambda_u"] * error


def _tower(model: nn.Module, number: int) -> nn.Module:
    return model.get_submodule(f"towers.{number}")


def _predict(network: nn.Module, views: tuple[torch.Tensor, ...], training: bool) -> torch.Tensor:
    """(B, K) mean probabilities over the views, one pass each."""
    return torch.stack([logits_in_mode(network, v, training).softmax(dim=1) for v in views]).mean(dim=0)
