"""Images a second of whole epochs: the published loop's structure, and ours.

    python benchmarks/throughput.py --device cuda --json benchmarks/results/throughput-cuda.json
    python benchmarks/throughput.py --device cuda --data results/download/cifar10-DIGEST --json ...

The published structure, rebuilt from its description: a DataLoader with workers, a fresh module copy at each
meta step, double backward, fp32. Ours: pictures on the device, the iteration as the recipe's switches say.
ResNet-32, batch 100 + 100. Without ``--data`` the pictures are random; the cost is the same.
"""

import argparse
import itertools
from pathlib import Path

import numpy as np
import torch
from common import interleaved, report
from data import MEAN, STD, Pictures
from step import RECIPE, Case
from torch.utils.data import DataLoader

from cmw_pipeline.config.meta_names import parse_meta
from cmw_pipeline.config.schema import Augment, Recipe
from cmw_pipeline.data.loader import ImageStore
from cmw_pipeline.methods.base import Batch, Problem, Stream
from cmw_pipeline.training.batches import Meta, Task, Turn, meta_plan, show

BATCH, META = 100, 1000
AUGMENT = Augment(pad=4, flip=True)


def published(case, images, labels, steps, workers):
    """An epoch of the published loop: a meta step in every iteration."""
    device = case.batch.images.device
    pinned = device.type == "cuda"
    pictures = Pictures(images)

    def batches(count):
        return DataLoader(
            torch.utils.data.Subset(pictures, range(count)),
            BATCH,
            shuffle=True,
            num_workers=workers,
            pin_memory=pinned,
            drop_last=True,
        )

    def epoch():
        metas = itertools.cycle(batches(META))
        for (x, rows), (meta_x, meta_rows) in zip(
            itertools.islice(batches(len(images)), steps), metas, strict=False
        ):
            case.batch = Batch(x.to(device), labels[rows].to(device), rows.to(device))
            case.meta = Batch(meta_x.to(device), labels[meta_rows].to(device), meta_rows.to(device))
            case.double_backward()

    return epoch


def ours(case, task, steps, every):
    """The same number of iterations of ours; ``every`` 0 is plain ERM."""
    device = case.batch.images.device
    turn = Turn.draw(task, 0, 0, [Stream(np.arange(len(task.labels)))], device)
    metas = meta_plan(task, 0, turn.steps, torch.arange(META, device=device))
    iterations = case.iterations[case.method if every else case.erm]

    def epoch():
        for step in range(steps):
            meta = show(task, metas, step) if every and step % every == 0 else None
            iterations.run(turn.batch(task, step), meta)

    return epoch


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--data", type=Path, help="a downloaded CIFAR artefact")
    parser.add_argument("--steps", type=int, help="of an epoch; default 450 on a GPU, 10 on a CPU")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    device = torch.device(options.device)
    steps = options.steps or (450 if device.type == "cuda" else 10)
    count = max(steps * BATCH, META)
    if options.data:
        images = np.load(options.data / "images.npy", mmap_mode="r")[:count]
    else:
        images = np.random.default_rng(0).integers(0, 256, (count, 32, 32, 3)).astype(np.uint8)
    labels = torch.arange(count) % 10
    ways = {"fp32": {}}
    if device.type == "cuda":
        ways["fp32 captured"] = {"capture": True}
        ways["bf16 captured"] = {"capture": True, "precision": "bf16", "channels_last": True}
    actions = {"published": published(Case(device, BATCH), images, labels, steps, options.workers)}
    for name, way in ways.items():
        recipe = Recipe.model_validate(RECIPE | way | {"augment": AUGMENT})
        store = ImageStore.put(np.asarray(images), MEAN, STD, AUGMENT, device)
        on_device = labels.to(device)
        meta = Meta(parse_meta("clean-10"), 10, BATCH, 1)
        task = Task(recipe, 0, Problem(10, on_device), store, on_device, store, on_device, meta)
        for every, what in ((0, "ERM"), (1, "CMW-Net"), (10, "CMW-Net, meta step every 10")):
            actions[f"{what}, {name}"] = ours(Case(device, BATCH, way), task, steps, every)
    taken = interleaved(actions, device, options.rounds, warm_up=1)
    rates = {name: steps * BATCH / seconds for name, seconds in taken.items()}
    for name, rate in rates.items():
        print(f"{name:48}{rate:12,.0f} images/s{rate / rates['published']:8.1f} x published")
    report(options.json, device, {"steps": steps, "images_per_second": rates})


if __name__ == "__main__":
    main()
