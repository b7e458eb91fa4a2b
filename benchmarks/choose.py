"""Accuracy of a recipe on training images that it does not see: for choosing settings.

    python benchmarks/choose.py cifar-fast results/download/cifar10-DIGEST --set optimizer.lr=0.75

Trains ERM on the first 45,000 training images of CIFAR-10, clean labels, and tests on the last 5,000.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from ruamel.yaml import YAML

from cmw_pipeline.config import load
from cmw_pipeline.config.datasets import FACTS
from cmw_pipeline.config.methods.losses import Erm
from cmw_pipeline.config.schema import Recipe
from cmw_pipeline.data.loader import ImageStore
from cmw_pipeline.methods.base import Problem
from cmw_pipeline.methods.registry import build
from cmw_pipeline.models import registry as models
from cmw_pipeline.runtime.memory import keep_memory
from cmw_pipeline.runtime.signals import StopRequest
from cmw_pipeline.training.batches import Task
from cmw_pipeline.training.loop import train
from cmw_pipeline.training.optim import optimizer
from cmw_pipeline.training.precision import on_device, use_tf32
from cmw_pipeline.training.state import TrainState
from cmw_pipeline.types import TEST

SEEN, ALL = 45_000, 50_000


def changed(recipe, settings):
    """The recipe with ``a.b=value`` set."""
    body = recipe.model_dump(exclude_defaults=True)
    for setting in settings:
        path, _, value = setting.partition("=")
        *outer, last = path.split(".")
        place = body
        for key in outer:
            place = place.setdefault(key, {})
        place[last] = YAML(typ="safe", pure=True).load(value)
    return Recipe.model_validate(body)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipe")
    parser.add_argument("data", type=Path)
    parser.add_argument("--set", nargs="*", default=[])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--checkpoints", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    keep_memory()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    recipe = on_device(changed(load(Path("params.yaml")).recipes[options.recipe], options.set), device)
    use_tf32(recipe.precision)
    facts = FACTS["cifar10"]
    images = np.load(options.data / "images.npy", mmap_mode="r")
    table = pd.read_parquet(options.data / "labels.parquet")
    labels = torch.from_numpy(table["label"].to_numpy(np.int64)).to(device)

    def store(rows):
        return ImageStore.put(np.asarray(images[rows]), facts.mean, facts.std, recipe.augment, device)

    problem = Problem(10, labels[:SEEN])
    test = slice(SEEN, ALL)
    task = Task(
        recipe, options.seed, problem, store(slice(SEEN)), labels[:SEEN], store(test), labels[test], None
    )
    model = models.build(recipe.network, 3, 10, options.seed).to(device)
    if recipe.channels_last:
        model = model.to(memory_format=torch.channels_last)
    method = build(Erm(kind="erm", label="-"), problem, options.seed).to(device)
    moved = optimizer(model.parameters(), recipe.optimizer).to(device)
    state = TrainState(
        model=model,
        method=method,
        optimizer=moved,
        teacher=None,
        device=device,
        meta_rows=torch.empty(0, dtype=torch.int64, device=device),
        loss_sum=torch.zeros((), dtype=torch.float64, device=device),
    )
    with tempfile.TemporaryDirectory() as scratch:
        train(task, state, StopRequest(), options.checkpoints or Path(scratch))
    for record in state.records:
        print(f"epoch {record['epoch'] + 1}: {record['scores'][TEST]['accuracy']:.2f}", flush=True)


if __name__ == "__main__":
    main()
