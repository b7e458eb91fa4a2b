"""An epoch's batches: which samples, in what order, seen how. Functions of (seed, epoch) and the method."""

from dataclasses import dataclass

import torch

from cmw_pipeline.config.meta_names import MetaRule
from cmw_pipeline.config.schema import Augment, Recipe
from cmw_pipeline.data.loader import Draws, EpochPlan, ImageStore
from cmw_pipeline.meta.selection import lowest_per_class, random_per_class
from cmw_pipeline.methods.base import Batch, Problem, Stream, View
from cmw_pipeline.runtime.seeds import stream
from cmw_pipeline.runtime.team import SOLO, Team


@dataclass(frozen=True)
class Meta:
    """Where meta batches come from. ``per_class`` is the resolved number of images a class."""

    rule: MetaRule
    per_class: int
    batch_size: int
    every: int


@dataclass(frozen=True)
class Task:
    """What a run trains on. Rows 0..N-1 of the store are the training set, held-out meta rows follow."""

    recipe: Recipe
    seed: int
    problem: Problem
    store: ImageStore
    labels: torch.Tensor
    """(N + M,) int64: given labels of the training set, then labels of the held-out meta-set."""
    test_store: ImageStore
    test_labels: torch.Tensor
    meta: Meta | None
    team: Team = SOLO

    @property
    def num_train(self) -> int:
        """N."""
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
        steps = len(streams[0].rows) // sizes[0]
        plans = []
        for place, (source, size) in enumerate(zip(streams, sizes, strict=True)):
            names = () if number == place == 0 else (number, place)
            rng = stream(task.seed, "batches", epoch, *names)
            views = len(source.views)
            plan = EpochPlan.draw(source.rows, size, steps, task.recipe.augment, rng, views, task.store.size)
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
    plan = EpochPlan.draw(pool, size, steps, task.recipe.augment, rng, 1, task.store.size)
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
    if meta.rule.kind == "random":
        rng = stream(task.seed, "meta-set", epoch)
        rows = random_per_class(labels.cpu().numpy(), meta.per_class, rng)
    else:
        assert logits is not None
        losses = torch.nn.functional.cross_entropy(logits, labels, reduction="none")
        rows = lowest_per_class(labels.cpu().numpy(), losses.cpu().numpy(), meta.per_class)
    return torch.from_numpy(rows).to(labels.device)


def show(task: Task, plan: EpochPlan, step: int, views: tuple[View, ...] = ("weak",), turn: int = 0) -> Batch:
    """The samples of a step in the views asked for; of the images only this process's share."""
    draws = [plan.batch(step, number) for number in range(len(views))]
    own = [draw.part(task.team.share(len(draw.rows))) for draw in draws]
    images = [
        _seen(task.store, draw, view, task.recipe.augment) for draw, view in zip(own, views, strict=True)
    ]
    if task.recipe.channels_last:
        images = [image.contiguous(memory_format=torch.channels_last) for image in images]
    rows = draws[0].rows
    return Batch(images[0], task.labels[rows], rows, tuple(images[1:]), turn=turn)


def _seen(store: ImageStore, draws: Draws, view: View, augment: Augment) -> torch.Tensor:
    if view == "strong":
        return store.strong(draws)
    still = not (augment.pad or augment.flip or augment.rotate or augment.cutout)
    return store.plain(draws.rows) if view == "plain" or still else store.augmented(draws)
