"""Augmented batches a second: PyTorch's DataLoader with torchvision transforms, and ours on the device.

    python benchmarks/data.py --device cpu --json benchmarks/results/data-cpu.json

CIFAR-shaped random pictures; pad 4, crop, flip, normalise.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from common import interleaved, report
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from cmw_pipeline.config.schema import Augment
from cmw_pipeline.data.loader import ImageStore
from cmw_pipeline.training.epoch_plan import EpochPlan

COUNT, BATCH = 10_000, 100
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)


class Pictures(Dataset):
    """What the published scripts use: one picture at a time, transformed in a worker."""

    def __init__(self, images):
        self.images = torch.from_numpy(images.transpose(0, 3, 1, 2).copy())
        self.transform = v2.Compose(
            [
                v2.RandomCrop(32, padding=4),
                v2.RandomHorizontalFlip(),
                v2.ToDtype(torch.float32, scale=True),
                v2.Normalize(MEAN, STD),
            ]
        )

    def __len__(self):
        return len(self.images)

    def __getitem__(self, row):
        return self.transform(self.images[row]), row


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 2])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    device = torch.device(options.device)
    images = np.random.default_rng(0).integers(0, 256, (COUNT, 32, 32, 3)).astype(np.uint8)
    augment = Augment(pad=4, flip=True)
    store = ImageStore.put(images, MEAN, STD, augment, device)

    def ours():
        steps = COUNT // BATCH
        plan = EpochPlan.draw(np.arange(COUNT), BATCH, steps, augment, np.random.default_rng(1))
        plan = plan.to(device)
        for step in range(steps):
            store.augmented(plan.batch(step))

    def loader(workers):
        def run():
            pinned = device.type == "cuda"
            batches = DataLoader(
                Pictures(images), BATCH, shuffle=True, num_workers=workers, pin_memory=pinned
            )
            for pictures, _ in batches:
                pictures.to(device, non_blocking=True)

        return run

    actions = {"ours": ours} | {f"DataLoader, {n} workers": loader(n) for n in options.workers}
    taken = interleaved(actions, device, options.rounds, warm_up=1)
    rates = {name: COUNT / seconds for name, seconds in taken.items()}
    for name, rate in rates.items():
        print(f"{name:24}{rate:12,.0f} images/s{rates['ours'] / rate:10.1f} x slower than ours")
    report(options.json, device, {"batch_size": BATCH, "images_per_second": rates})


if __name__ == "__main__":
    main()
