"""A training task small enough to run hundreds of times: random 8 x 8 images, four classes."""

import numpy as np
import torch
from torch import nn

from cmw_pipeline.config.meta_names import parse_meta
from cmw_pipeline.config.schema import CmwNet, Erm, MwNet, Recipe, WeightNet
from cmw_pipeline.data.loader import ImageStore
from cmw_pipeline.methods import registry as methods
from cmw_pipeline.methods.base import Problem
from cmw_pipeline.training.ema import make_ema
from cmw_pipeline.training.loop import Meta, Task
from cmw_pipeline.training.optim import Adam, Sgd
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


def options(kind, **changes):
    body = {"kind": kind, "label": "-"}
    if kind != "erm":
        body |= {"meta_set": "clean-2", "meta_batch": 4}
    return {"erm": Erm, "mw-net": MwNet, "cmw-net": CmwNet}[kind].model_validate(body | changes)


def network(dropout=0.3):
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Dropout(dropout),
        nn.Flatten(),
        nn.Linear(4 * 64, CLASSES),
    )


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
    if kind != "erm":
        rule = parse_meta(opts.meta_set)
        meta = Meta(rule, rule.per_class or 4, opts.meta_batch, opts.meta_every)
    return Task(
        recipe=recipe,
        seed=seed,
        problem=Problem(CLASSES, torch.from_numpy(labels[:TRAIN])),
        store=store(images),
        labels=torch.from_numpy(labels),
        test_store=store(images[:TEST]),
        test_labels=torch.from_numpy(labels[:TEST]),
        meta=meta,
    )


def state(task, kind="cmw-net", dropout=0.3, **changes):
    model = network(dropout)
    method = methods.build(options(kind, **changes), task.problem, seed=1)
    theta = list(method.parameters())
    torch.manual_seed(2)
    return TrainState(
        model=model,
        method=method,
        optimizer=Sgd(model.parameters(), task.recipe.optimizer),
        theta_optimizer=Adam(theta, WeightNet(lr=1e-2)) if theta else None,
        ema=make_ema(model, task.recipe.ema),
        device=CPU,
        meta_rows=torch.empty(0, dtype=torch.int64),
        loss_sum=torch.zeros((), dtype=torch.float64),
    )
