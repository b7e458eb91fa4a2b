"""A training task small enough to run hundreds of times: random 8 x 8 images, four classes."""

import numpy as np
import torch
from pydantic import TypeAdapter, ValidationError
from torch import nn

from cmw_pipeline.config.fields import over
from cmw_pipeline.config.meta_names import parse_meta
from cmw_pipeline.config.methods import KINDS, Method
from cmw_pipeline.config.schema import Recipe
from cmw_pipeline.config.weightings import MetaLearned, WeightingBase
from cmw_pipeline.data.loader import ImageStore
from cmw_pipeline.meta.optimizers import Sgd
from cmw_pipeline.meta.weight_net import WeightNet
from cmw_pipeline.meta.weighting import WeightingFunction
from cmw_pipeline.methods import registry as methods
from cmw_pipeline.methods.base import Problem
from cmw_pipeline.models import registry as models
from cmw_pipeline.models.blocks import Classifier
from cmw_pipeline.models.heads import replacement
from cmw_pipeline.models.twins import Twins
from cmw_pipeline.training.batches import Meta, Task
from cmw_pipeline.training.ema import Teacher
from cmw_pipeline.training.state import TrainState

CPU = torch.device("cpu")
METHOD = TypeAdapter(Method)
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


RUN = "digits/none/cmw-net/quick/seed0"
SMALL_META = {"meta_set": "clean-2", "meta_batch": 4}
METHOD_OPTIONS = {
    "active-bias": {"start_epoch": 1},
    "co-teaching": {"forget_rate": 0.4},
    "cores": {"reward_from": 0, "ramp_epochs": 2, "sieve_from": 1},
    "crt": {"first": {"method": "erm"}},
    "deep-gamblers": {"start_epoch": 0},
    "disc": {"start_epoch": 1, "memory": 0.5, "offset": 0.0},
    "dividemix": {"start_epoch": 1, "batch_size": 4},
    "dynamic-loss": {"start_epoch": 1, "ranks": 5},
    "fixmatch": {"batch_size": 5, "ratio": 2, "threshold": 0.3},
    "flexmatch": {"batch_size": 5, "ratio": 2, "threshold": 0.3},
    "freematch": {"batch_size": 5, "ratio": 2},
    "softmatch": {"batch_size": 5, "ratio": 2},
    "abc": {"batch_size": 5, "ratio": 2, "threshold": 0.0, "ramp_epochs": 3},
    "forward": {"first": {"method": "erm"}},
    "lrt": {"start_epoch": 0},
    "m-correction": {"bootstrap_epoch": 1},
    "pico": {"queue": 24, "ramp_epochs": 3},
    "plc": {"start_epoch": 1, "window": 2, "threshold": 0.8},
    "reed-like": {"first": {"method": "simclr"}, "start_epoch": 1, "batch_size": 4},
    "rolt": {"start_epoch": 1},
    "sat": {"start_epoch": 1},
    "sat-selective": {"start_epoch": 1},
    "selfie": {"forget_rate": 0.4, "start_epoch": 1, "window": 2, "entropy": 0.5},
}
"""Options without a default, and those that let a method start within a tiny run."""
WEIGHTING_OPTIONS = {
    "l2rw": SMALL_META,
    "mcw": SMALL_META,
    "mw-net": SMALL_META | {"weight_net": {"lr": 1e-2}},
    "cmw-net": SMALL_META | {"weight_net": {"lr": 1e-2}},
    "frozen": {"run": RUN},
}
WITH_CANDIDATES = (
    "proden",
    "cc",
    "lws",
    "cavl",
    "pico",
    "fixmatch",
    "flexmatch",
    "freematch",
    "softmatch",
    "abc",
)
"""What is trained where not every sample has one label."""


def options(pair, **changes):
    """Options small enough for the tiny task, of a method, or of a pair: ``gce/cmw-net``.

    Options of the weighting are in ``weighting``, over the small ones.
    """
    kind, _, weighting = pair.partition("/")
    body = {"kind": kind, "label": "-", **METHOD_OPTIONS.get(kind, {})}
    if weighting:
        body["weighting"] = {"kind": weighting, **WEIGHTING_OPTIONS.get(weighting, {})}
    return METHOD.validate_python(over(body, changes))


def fits(pair):
    try:
        options(pair)
    except ValidationError:
        return False
    return True


METHODS = sorted(KINDS)
EACH = [*METHODS, *(f"erm/{weighting}" for weighting in WeightingBase.kinds), "soft-labels/cmw-net"]
"""Every method and every weighting once, and the pair that splits weights."""
PAIRS = [f"{kind}/{weighting}" for kind in METHODS for weighting in WeightingBase.kinds]
"""The product of methods and weightings, senseless ones too."""
GOOD_PAIRS = [pair for pair in PAIRS if fits(pair)]
LEARNING_PAIRS = [pair for pair in GOOD_PAIRS if isinstance(options(pair).weighting, MetaLearned)]


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
    towers = [network(dropout, seed, method.facts.head) for seed in range(method.facts.towers)]
    return towers[0] if len(towers) == 1 else Twins(towers)


def loss_of(method, logits, batch):
    """The loss of the real step."""
    return method.objective(logits, batch, method.weigh)


def function():
    """A weighting function that was learned elsewhere."""
    with torch.random.fork_rng():
        torch.manual_seed(5)
        net = WeightNet(7, 3)
    net.loss_max.fill_(1.5)
    return WeightingFunction(net, [0, 1, 2], {})


def task(kind="erm/cmw-net", seed=0, recipe=None, **changes):
    recipe = recipe or globals()["recipe"]()
    opts = options(kind, **changes)
    rng = np.random.default_rng(0)
    labels = np.concatenate([np.repeat(np.arange(CLASSES), [16, 12, 8, 4]), np.repeat(np.arange(CLASSES), 2)])
    images = rng.integers(0, 120, (TRAIN + META, 8, 8, 1)).astype(np.uint8)
    images[np.arange(len(images)), labels * 2, labels] = 255

    def store(pixels):
        return ImageStore.put(pixels, (0.3,), (0.3,), recipe.augment, CPU)

    meta = None
    weighting = opts.weighting
    if isinstance(weighting, MetaLearned):
        rule = parse_meta(weighting.meta_set)
        views = weighting.meta_views
        meta = Meta(rule, rule.per_class or 4, weighting.meta_batch, weighting.meta_every, views)
    first_logits = torch.from_numpy(rng.normal(size=(TRAIN, CLASSES)).astype(np.float32))
    candidates = torch.from_numpy(np.random.default_rng(1).random((TRAIN, CLASSES)) < 0.3)
    candidates[torch.arange(TRAIN), torch.from_numpy(labels[:TRAIN])] = True
    return Task(
        recipe=recipe,
        seed=seed,
        problem=Problem(
            CLASSES,
            torch.from_numpy(labels[:TRAIN]),
            function(),
            first_logits,
            candidates if opts.kind in WITH_CANDIDATES else None,
        ),
        store=store(images),
        labels=torch.from_numpy(labels),
        test_store=store(images[:TEST]),
        test_labels=torch.from_numpy(labels[:TEST]),
        meta=meta,
    )


def state(task, kind="erm/cmw-net", dropout=0.3, **changes):
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
