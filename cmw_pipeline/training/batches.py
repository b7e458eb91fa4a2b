"""An epoch's batches: which samples, in what order, seen how. Functions of (seed, epoch) and the method."""

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import torch

from cmw_pipeline.config.meta_names import MetaRule
from cmw_pipeline.config.schema import Recipe
from cmw_pipeline.data.loader import Ask, Store
from cmw_pipeline.meta.selection import lowest_per_class, random_per_class
from cmw_pipeline.methods.base import Batch, Problem, Stream, View
from cmw_pipeline.runtime.seeds import stream
from cmw_pipeline.runtime.team import SOLO, Team
from cmw_pipeline.training.epoch_plan import EpochPlan
from cmw_pipeline.training.precision import ordered

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Meta:
    """Where meta batches come from. ``per_class`` is the resolved number of images a class, or in all."""

    rule: MetaRule
    per_class: int
    batch_size: int
    every: int
    views: tuple[View, ...] = ("weak",)


@dataclass(frozen=True)
class Task:
    """What a run trains on. Rows 0..N-1 of the store are the training set, held-out meta rows follow."""

    recipe: Recipe
    seed: int
    problem: Problem
    store: Store
    labels: torch.Tensor
    """(N + M,) int64: given labels of the training set, then labels of the held-out meta-set."""
    test_store: Store
    test_labels: torch.Tensor
    meta: Meta | None
    team: Team = SOLO
    test_sets: Mapping[str, torch.Tensor] = field(default_factory=dict)
    """Named parts of the test samples, (n,) int64 each; the first is the one that counts. Empty: no parts."""

    @property
    def num_train(self) -> int:
        """N, how many samples are trained on."""
        return len(self.problem.labels)


@dataclass(frozen=True)
class Turn:
    """A stretch of an epoch on the same streams."""

    number: int
    steps: int
    plans: list[EpochPlan]
    views: list[tuple[View, ...]]

    @classmethod
    def draw(cls, task: Task, epoch: int, number: int, streams: list[Stream], device: torch.device) -> "Turn":
        """Order and augmentation of every stream; the first stream sets the number of steps.

        An incomplete batch at its end is left out; a stream shorter than a batch gives smaller batches.
        """
        sizes = [min(s.batch_size or task.recipe.batch_size, len(s.rows)) for s in streams]
        if number == epoch == 0 and sizes[0] < (asked := streams[0].batch_size or task.recipe.batch_size):
            log.warning("batches of %d: the training set has no %d samples", sizes[0], asked)
        steps = len(streams[0].rows) // sizes[0]
        plans = []
        for place, (source, size) in enumerate(zip(streams, sizes, strict=True)):
            names = () if number == place == 0 else (number, place)
            rng = stream(task.seed, "batches", epoch, *names)
            views = len(source.views)
            augment, store = task.recipe.augment, task.store
            plan = EpochPlan.draw(source.rows, size, steps, augment, rng, views, store.size)
            plans.append(plan.to(device))
        return cls(number, steps, plans, [source.views for source in streams])

    def batch(self, task: Task, step: int) -> Batch:
        """The batch of a step: of the first stream, with the others' beside it."""
        first, *others = [
            show(task, plan, step, views, self.number)
            for plan, views in zip(self.plans, self.views, strict=True)
        ]
        return Batch(first.images, first.labels, first.rows, first.views, tuple(others), self.number)


def meta_plan(task: Task, epoch: int, steps: int, meta_rows: torch.Tensor) -> EpochPlan | None:
    """The epoch's meta batches, one for each step; None without a meta-set."""
    if task.meta is None:
        return None
    pool = meta_rows.cpu().numpy()
    size = min(task.meta.batch_size, len(pool))
    rng = stream(task.seed, "meta-batches", epoch)
    store = task.store
    plan = EpochPlan.draw(pool, size, steps, task.recipe.augment, rng, len(task.meta.views), store.size)
    return plan.to(meta_rows.device)


def pick_meta_rows(task: Task, epoch: int, meta: Meta, logits: torch.Tensor | None) -> torch.Tensor:
    """(M,) rows of the epoch's meta-set.

    Args:
        task: the run.
        epoch: 0-based.
        meta: the rule, resolved.
        logits: (N, K) of the network that judges, where the rule looks at losses.
    """
    labels = task.problem.labels
    if meta.rule.kind == "clean":
        return torch.arange(task.num_train, len(task.labels), device=labels.device)
    if meta.rule.kind == "labelled":
        return task.problem.labelled.nonzero()[:, 0]
    if meta.rule.kind == "any":
        rows = stream(task.seed, "meta-set").permutation(task.num_train)[: meta.per_class]
    elif meta.rule.kind == "random":
        rng = stream(task.seed, "meta-set", epoch)
        rows = random_per_class(labels.cpu().numpy(), meta.per_class, rng)
    else:
        assert logits is not None
        losses = torch.nn.functional.cross_entropy(logits, labels, reduction="none")
        rows = lowest_per_class(labels.cpu().numpy(), losses.cpu().numpy(), meta.per_class)
    return torch.from_numpy(rows).to(labels.device)


def show(task: Task, plan: EpochPlan, step: int, views: tuple[View, ...] = ("weak",), turn: int = 0) -> Batch:
    """The samples of a step in the views asked for; of the images only this process's share."""
    images = [ordered(task.recipe, _seen(task.store, ask)) for ask in _asks(task, plan, step, views)]
    rows = plan.batch(step).rows
    return Batch(images[0], task.labels[rows], rows, tuple(images[1:]), turn=turn)


def upcoming(
    task: Task, turns: list[Turn], metas: EpochPlan | None, start: int, iteration: int
) -> Iterator[Ask]:
    """What :func:`show` will ask the store for from a step of the epoch on, in order.

    Args:
        task: the run.
        turns: of the epoch.
        metas: the epoch's meta batches, where there are any.
        start: steps already done in the epoch.
        iteration: steps already done in all.
    """
    here = torch.device("cpu")
    metas = metas and metas.to(here)
    plans = [[plan.to(here) for plan in turn.plans] for turn in turns]
    steps = [(number, step) for number, turn in enumerate(turns) for step in range(turn.steps)]
    for place, (number, step) in list(enumerate(steps))[start:]:
        for plan, views in zip(plans[number], turns[number].views, strict=True):
            yield from _asks(task, plan, step, views)
        if metas is not None and task.meta is not None and (iteration + place - start) % task.meta.every == 0:
            yield from _asks(task, metas, place, task.meta.views)


def _asks(task: Task, plan: EpochPlan, step: int, views: tuple[View, ...]) -> Iterator[Ask]:
    """One call for each view, of this process's share."""
    for number, view in enumerate(views):
        draws = plan.batch(step, number)
        shown = "plain" if view == "weak" and _still(task) else view
        yield Ask(draws.part(task.team.share(len(draws.rows))), shown)


def _still(task: Task) -> bool:
    augment = task.recipe.augment
    return not (task.store.always_crops or augment.pad or augment.flip or augment.rotate or augment.cutout)


def _seen(store: Store, ask: Ask) -> torch.Tensor:
    if ask.view == "strong":
        return store.strong(ask.draws)
    return store.plain(ask.draws.rows) if ask.view == "plain" else store.augmented(ask.draws)
