"""A training task small enough to run hundreds of times: random 8 x 8 images, four classes."""

import numpy as np
import torch
from pydantic import TypeAdapter
from torch import nn

from cmw_pipeline.config.meta_names import parse_meta
from cmw_pipeline.config.methods import MetaLearned, Method
from cmw_pipeline.config.schema import Recipe
from cmw_pipeline.data.loader import ImageStore
from cmw_pipeline.methods import registry as methods
from cmw_pipeline.methods.base import Problem
from cmw_pipeline.models import registry as models
from cmw_pipeline.models.blocks import Classifier
from cmw_pipeline.models.heads import replacement
from cmw_pipeline.models.twins import Twins
from cmw_pipeline.training.batches import Meta, Task
from cmw_pipeline.training.ema import Teacher
from cmw_pipeline.training.optim import Sgd
from cmw_pipeline.training.state import TrainState

CPU = torch.device("cpu")
CLASSES, TRAIN, META, TEST = 4, 40, 8, 16


def recipe(**changes):
    body = {
        "network": {"name": "small-cnn", "width": 4},
        "optimizer": {"lr": 0.1},
        "schedule": {"name": "cosine"},
        "epochs": 3,
        "batch_size": 10,
        "augment": {"pad": 1, "flip": True},
        "ema": 0.9,
    }
    return Recipe.model_validate(body | changes)


META_KINDS = ("l2rw", "mcw", "mw-net", "cmw-net", "cmw-net-sl")
WEIGHT_NET_KINDS = META_KINDS[2:]
NEEDED = {
    "active-bias": {"start_epoch": 1},
    "selfie": {"forget_rate": 0.4, "start_epoch": 1, "window": 2, "entropy": 0.5},
    "dynamic-loss": {"start_epoch": 1, "ranks": 5},
    "co-teaching": {"forget_rate": 0.4},
    "forward": {"first": {"method": "erm"}},
    "cmw-net-partial": {"first": {"method": "proden"}, "meta_set": "lowest-2", "meta_batch": 4},
    "reed-like": {"first": {"method": "simclr"}, "batch_size": 4},
    "selective-net-cmw-net": {"meta_set": "lowest-2", "meta_batch": 4},
    "deep-gamblers-cmw-net": {"meta_set": "lowest-2", "meta_batch": 4},
    "sat-selective-cmw-net": {"meta_set": "lowest-2", "meta_batch": 4},
}
"""Options without a default."""


def options(kind, **changes):
    """Options of a method, small enough for the tiny task."""
    body = {"kind": kind, "label": "-"}
    if kind in META_KINDS:
        body |= {"meta_set": "clean-2", "meta_batch": 4}
    if kind in WEIGHT_NET_KINDS:
        body |= {"weight_net": {"lr": 1e-2}}
    body |= NEEDED.get(kind, {})
    return TypeAdapter(Method).validate_python(body | changes)


class Tiny(Classifier):
    """One convolution; dropout, where random streams matter."""

    def __init__(self, dropout, head):
        super().__init__()
        layers = [
            nn.Conv2d(1, 4, 3, padding=1),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Flatten(),
        ]
        self.features = nn.Sequential(*layers)
        self.classifier = replacement(head, nn.Linear(4 * 64, CLASSES))

    def embed(self, images):
        return self.features(images)


def network(dropout=0.3, seed=0, head="linear"):
    if head == "experts":
        return models.build(recipe().network, 1, CLASSES, seed, head)
    torch.manual_seed(seed)
    return Tiny(dropout, head)


def model_for(method, dropout=0.3):
    """The network, with the head and as many times as the method needs it."""
    towers = [network(dropout, seed, method.head) for seed in range(method.towers)]
    return towers[0] if method.towers == 1 else Twins(towers)


def task(kind="cmw-net", seed=0, recipe=None, **changes):
    recipe = recipe or globals()["recipe"]()
    opts = options(kind, **changes)
    rng = np.random.default_rng(0)
    labels = np.concatenate([np.repeat(np.arange(CLASSES), [16, 12, 8, 4]), np.repeat(np.arange(CLASSES), 2)])
    images = rng.integers(0, 120, (TRAIN + META, 8, 8, 1)).astype(np.uint8)
    images[np.arange(len(images)), labels * 2, labels] = 255

    def store(pixels):
        return ImageStore.put(pixels, (0.3,), (0.3,), recipe.augment, CPU)

    meta = None
    if isinstance(opts, MetaLearned):
        rule = parse_meta(opts.meta_set)
        meta = Meta(rule, rule.per_class or 4, opts.meta_batch, opts.meta_every)
    first_logits = torch.from_numpy(rng.normal(size=(TRAIN, CLASSES)).astype(np.float32))
    candidates = torch.from_numpy(np.random.default_rng(1).random((TRAIN, CLASSES)) < 0.3)
    candidates[torch.arange(TRAIN), torch.from_numpy(labels[:TRAIN])] = True
    return Task(
        recipe=recipe,
        seed=seed,
        problem=Problem(
            CLASSES, torch.from_numpy(labels[:TRAIN]), first_logits=first_logits, candidates=candidates
        ),
        store=store(images),
        labels=torch.from_numpy(labels),
        test_store=store(images[:TEST]),
        test_labels=torch.from_numpy(labels[:TEST]),
        meta=meta,
    )


def state(task, kind="cmw-net", dropout=0.3, **changes):
    method = methods.build(options(kind, **changes), task.problem, seed=1)
    model = model_for(method, dropout)
    torch.manual_seed(2)
    return TrainState(
        model=model,
        method=method,
        optimizer=Sgd(model.parameters(), task.recipe.optimizer),
        teacher=None if task.recipe.ema is None else Teacher(model),
        device=CPU,
        meta_rows=torch.empty(0, dtype=torch.int64),
        loss_sum=torch.zeros((), dtype=torch.float64),
    )
