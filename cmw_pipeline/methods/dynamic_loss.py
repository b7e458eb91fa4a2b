"""Dynamic Loss: a label corrector and a margin generator, learned on a meta-set (TPAMI 2023)."""

import dataclasses

import torch
import torch.nn.functional as F
from torch import nn

from cmw_pipeline.config.methods.learned_labels import DynamicLoss as Options
from cmw_pipeline.meta.optimizers import Adam
from cmw_pipeline.meta.selection import place_in_class
from cmw_pipeline.methods.base import Batch, Method, Networks, Problem, Stream, View, Weigh
from cmw_pipeline.methods.parts.losses import cross_entropy
from cmw_pipeline.methods.parts.mixing import logits_in_mode

_TRUSTING, _NEUTRAL = 3.98, 1.0
"""First biases of the two networks: labels are trusted at 98 %; margins are nearly equal."""


class DynamicLoss(Method):
    """Cross-entropy of logits + margins with the label v y + (1 − v) ŷ; v from the loss's rank and y.

    Jiang, Li, Zhang, Wang and Xu, TPAMI 45(12), 2023 (arXiv 2211.12506). ŷ is drawn from the prediction on
    the image as it is. Before each epoch every sample gets its rank among the losses of its class, and the
    epoch its own meta-set: the lowest losses among some random samples of each class, equally many. What is
    left is trained on, then the meta-set with hard labels.

    In the virtual step, which is the optimiser's own, the image is as it is; in the real one augmented.
    While the classifier warms up, so may the corrector: it learns to give the label back, with the prediction
    on the image as it is for ŷ. The published code stops that after 2,000 iterations, more than its warm-up
    has.
    """

    def __init__(self, options: Options, problem: Problem) -> None:
        super().__init__(options, problem)
        self.options = options
        nets = options.meta_net
        self.corrector = Corrector(options.ranks, nets.hidden, self.num_classes)
        self.generator = MarginGenerator(nets.hidden, self.num_classes)
        learned = [*self.corrector.parameters(), *self.generator.parameters()]
        self.adam = Adam(learned, nets.lr, nets.weight_decay, nets.amsgrad)
        self.given = nn.Buffer(problem.labels, persistent=False)
        self.ranks = nn.Buffer(torch.zeros_like(problem.labels))
        self.is_meta = nn.Buffer(torch.zeros_like(problem.labels, dtype=torch.bool))
        self.seen = self.drawn = torch.empty(0)

    def between_epochs(self, epoch: int, networks: Networks) -> None:
        """Rank the losses in each class; pick the epoch's meta-set."""
        losses = cross_entropy(networks.scan(networks.student), self.given)
        sizes = torch.bincount(self.given, minlength=self.num_classes)
        place = place_in_class(self.given, losses)
        self.ranks.copy_(self.options.ranks * place // (sizes[self.given] + 1))
        if self.active:
            smallest = int(sizes[sizes > 0].min())
            self.is_meta.copy_(self._picked(losses, smallest))

    def _picked(self, losses: torch.Tensor, smallest: int) -> torch.Tensor:
        """(N,) bool: of a random share of each class, as large for all, the share of lowest losses."""
        o = self.options
        among = max(1, int(o.primary_share * smallest))
        drawn = place_in_class(self.given, torch.rand_like(losses)) < among
        place = place_in_class(self.given, losses.masked_fill(~drawn, torch.inf))
        return drawn & (place < max(1, int(o.primary_share * o.meta_share * smallest)))

    def turns(self, epoch: int) -> list[list[Stream]]:
        """What is not in the meta-set, with meta batches beside it; then the meta-set."""
        strong = self.options.strong_view
        if not self.active:
            views: tuple[View, ...] = (strong, "plain") if self.options.warm_corrector else (strong,)
            return [[Stream(torch.arange(self.num_samples).numpy(), views=views)]]
        meta, rest = (rows.nonzero()[:, 0].cpu().numpy() for rows in (self.is_meta, ~self.is_meta))
        shown = Stream(rest, views=(strong, "plain"))
        return [[shown, Stream(meta, views=(strong,))], [Stream(meta, views=(strong,))]]

    def prepare(self, batch: Batch, networks: Networks) -> Batch:
        """In the warm-up, ask the classifier about the images as they are, for the corrector to learn on."""
        if self.active or not self.options.warm_corrector:
            return batch
        guessed = logits_in_mode(networks.student, batch.views[0], True).softmax(dim=1)
        return dataclasses.replace(batch, evidence={"guessed": guessed})

    def meta_batch(self, batch: Batch) -> Batch | None:
        """The batch of the meta-set, in the first turn of an active epoch."""
        return batch.others[0] if batch.others else None

    def virtual_images(self, batch: Batch) -> torch.Tensor:
        """The images as they are."""
        return batch.views[0]

    def observe(self, logits: torch.Tensor, batch: Batch) -> None:
        """Keep the prediction and a class drawn from it; before the start epoch, train the corrector."""
        if not self.active and self.options.warm_corrector:
            self.adam.update(self._warming_gradient(batch))
        elif batch.others:
            self.seen, self.drawn = logits, _draw(logits)

    def _warming_gradient(self, batch: Batch) -> list[torch.Tensor]:
        """Gradient of −log of the corrected label's entry at the given label."""
        chance = batch.evidence["guessed"].gather(1, batch.labels[:, None]).squeeze(1)
        trust = self.trust(batch)
        loss = -(trust + (1 - trust) * chance).log().mean()
        return list(torch.autograd.grad(loss, self.adam.trained, materialize_grads=True))

    def trust(self, batch: Batch) -> torch.Tensor:
        """(B,) v in (0, 1): the share of the given label."""
        trust: torch.Tensor = self.corrector(self.ranks[batch.rows], batch.labels)
        return trust

    def weights(self, losses: torch.Tensor, batch: Batch) -> torch.Tensor:
        """(B,) the share of the given label; the losses count by their last ranks."""
        return self.trust(batch)

    def theta(self, batch: Batch) -> list[torch.Tensor]:
        """The parameters of both networks."""
        return self.adam.trained

    def virtual_objective(self, logits: torch.Tensor, batch: Batch) -> torch.Tensor:
        """The training loss with what was drawn at :meth:`observe`, a function of both networks."""
        return self._corrected_loss(logits, batch, self.drawn)

    def _corrected_loss(self, logits: torch.Tensor, batch: Batch, drawn: torch.Tensor) -> torch.Tensor:
        margined, trust = logits + self.generator(), self.trust(batch)
        given = trust * cross_entropy(margined, batch.labels)
        return (given + (1 - trust) * cross_entropy(margined, drawn)).mean()

    def learn(self, gradient: list[torch.Tensor]) -> None:
        """One step of Adam."""
        self.adam.update(gradient)

    def objective(self, logits: torch.Tensor, batch: Batch, weigh: Weigh) -> torch.Tensor:
        """With the networks as they are now and a class drawn anew; in the second turn, the given labels."""
        if not self.active:
            return F.cross_entropy(logits, batch.labels)
        if not batch.others:
            return F.cross_entropy(logits + self.generator().detach(), batch.labels)
        return self._corrected_loss(logits, batch, _draw(self.seen))


class Corrector(nn.Module):
    """From a loss's rank and the given class to how far the label is trusted."""

    def __init__(self, ranks: int, hidden: int, num_classes: int) -> None:
        super().__init__()
        self.embedding = nn.Parameter(nn.init.xavier_uniform_(torch.empty(ranks, hidden)))
        self.layers = _perceptron(hidden, num_classes, _TRUSTING)

    def forward(self, ranks: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """(B,) int64 ranks and labels -> (B,) in (0, 1)."""
        table: torch.Tensor = self.layers(self.embedding).sigmoid()
        return table[ranks, labels]


class MarginGenerator(nn.Module):
    """A margin for each class, added to the logits in training; nearly equal at the start."""

    def __init__(self, hidden: int, num_classes: int) -> None:
        super().__init__()
        self.start = nn.Parameter(nn.init.xavier_uniform_(torch.empty(1, hidden)))
        self.layers = _perceptron(hidden, num_classes, _NEUTRAL)

    def forward(self) -> torch.Tensor:
        """(1, K) margins."""
        margins: torch.Tensor = self.layers(self.start)
        return margins


def _perceptron(hidden: int, num_classes: int, bias: float) -> nn.Sequential:
    """Three layers, Xavier's normal weights, the last bias as given."""
    layers = [nn.Linear(hidden, hidden), nn.Linear(hidden, hidden), nn.Linear(hidden, num_classes)]
    for layer, value in zip(layers, (0.0, 0.0, bias), strict=True):
        nn.init.xavier_normal_(layer.weight)
        nn.init.constant_(layer.bias, value)
    return nn.Sequential(layers[0], nn.ReLU(), layers[1], nn.ReLU(), layers[2])


def _draw(logits: torch.Tensor) -> torch.Tensor:
    """(B,) int64: a class drawn from each prediction; a hard Gumbel-softmax sample."""
    return (logits.softmax(dim=1) / torch.empty_like(logits).exponential_()).argmax(dim=1)
