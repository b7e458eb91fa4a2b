"""ABC: beside FixMatch, a head that learns from as many samples of each class (NeurIPS 2021)."""

import torch
from torch import nn

from cmw_pipeline.config.methods.tasks import Abc as Options
from cmw_pipeline.methods.base import Batch, Problem, Weigh
from cmw_pipeline.methods.parts.losses import cross_entropy
from cmw_pipeline.methods.parts.pseudo_labels import PseudoLabels, parts


class Abc(PseudoLabels):
    """The first head learns by FixMatch; the second, which predicts, by cross-entropy on drawn samples.

    A labelled image of class y is drawn with the probability r_y = min n / n_y, n the numbers of labels; an
    image that the second head guesses to be of class j at ``threshold`` or above with 1 − (e / E)(1 − r_j), e
    the epoch of E (Lee, Shin & Kim, NeurIPS 2021). Both are sums over the drawn, divided by
    the size of the batch.
    """

    def __init__(self, options: Options, problem: Problem) -> None:
        super().__init__(options, problem)
        counts = problem.labels[problem.labelled].bincount(minlength=self.num_classes)
        self.threshold = options.threshold
        self.ramp_epochs = options.ramp_epochs
        self.rarity = nn.Buffer(counts.clamp(min=1).min() / counts.clamp(min=1))
        self.passed = nn.Buffer(torch.zeros(()))
        self.drawn = self.counted = torch.empty(0)

    def begin_epoch(self, epoch: int) -> None:
        """Say how much of the ramp has passed."""
        super().begin_epoch(epoch)
        self.passed.fill_(min(epoch / self.ramp_epochs, 1.0))

    def sure(self, probabilities: torch.Tensor, batch: Batch) -> torch.Tensor:
        """(U,) 1 or 0, of either head."""
        return (probabilities.amax(dim=1) >= self.threshold).to(probabilities)

    def observe(self, logits: torch.Tensor, batch: Batch) -> None:
        """Say which guesses count, and draw for the second head."""
        first, second = logits.chunk(2, dim=1)
        super().observe(first, batch)
        if self.active:
            (labelled,) = batch.others
            _, weak, _ = parts(second, batch)
            chance = 1 - self.passed * (1 - self.rarity[weak.argmax(dim=1)])
            self.drawn = torch.bernoulli(self.rarity[labelled.labels]).to(logits)
            self.counted = torch.bernoulli(chance).to(logits) * self.sure(weak.softmax(dim=1), batch)

    def objective(self, logits: torch.Tensor, batch: Batch, weigh: Weigh) -> torch.Tensor:
        """The scalar loss of (L + 2 U, 2 K) logits: of both heads, a mean over the samples each."""
        first, second = logits.chunk(2, dim=1)
        (labelled,) = batch.others
        given, weak, strong = parts(second, batch)
        loss = super().objective(first, batch, weigh)
        if not self.active:
            return loss + cross_entropy(given, labelled.labels).mean()
        balanced = (self.drawn * cross_entropy(given, labelled.labels)).mean()
        guessed = cross_entropy(strong, weak.detach().argmax(dim=1))
        return loss + balanced + (self.counted * guessed).mean()
