"""How far bfloat16 bends the gradient of a batch, and which of its roundings does.

    cmw train cifar10/lt-100/erm/cifar-short-fp32/seed0
    python benchmarks/rounding.py cifar10/lt-100/erm/cifar-short-fp32/seed0

The gradient of batches of training images, as they are, at the weights of a finished run: in float32, in
bfloat16 as the recipes have it, with batch norm in float32 besides, and in float32 with one thing rounded to
bfloat16 in turn: each convolution's weights, its inputs and outputs, the gradients of these. ``error`` is
|g - g32| / |g32|, ``length`` <g, g32> / <g32, g32>, ``sgd`` the error of another batch's gradient in float32:
what the draw of a batch is worth. Means over the batches.
"""

import argparse
import contextlib
import copy
import json
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from common import report
from safetensors.torch import load_file
from torch import nn

from cmw_pipeline.config import Plan, load
from cmw_pipeline.config.datasets import FACTS
from cmw_pipeline.models import registry as models
from cmw_pipeline.training.precision import forward_precision

CPU = torch.device("cpu")


class Rounded(torch.autograd.Function):
    """bfloat16 and back, of the value, of the gradient, or of both."""

    @staticmethod
    def forward(ctx, values, forward, backward):
        ctx.backward = backward
        return values.bfloat16().float() if forward else values.clone()

    @staticmethod
    def backward(ctx, gradient):
        return gradient.bfloat16().float() if ctx.backward else gradient, None, None


class RoundedConv(nn.Conv2d):
    """A convolution in float32 of which something is rounded."""

    rounds: tuple[bool, bool, bool]

    def forward(self, images):
        weights, values, gradients = self.rounds
        weight = Rounded.apply(self.weight, weights, False)
        out = self._conv_forward(Rounded.apply(images, values, gradients), weight, None)
        return Rounded.apply(out, values, gradients)


class NormIn32(nn.BatchNorm2d):
    """Batch norm outside autocast."""

    def forward(self, images):
        with torch.autocast("cpu", enabled=False):
            return super().forward(images.float())


def rounding(weights=False, values=False, gradients=False):
    """A network whose convolutions are :class:`RoundedConv`."""

    def change(module):
        if isinstance(module, nn.Conv2d):
            module.__class__, module.rounds = RoundedConv, (weights, values, gradients)

    return change


def norm_in_32(module):
    if isinstance(module, nn.BatchNorm2d):
        module.__class__ = NormIn32


WAYS = {
    "bfloat16": ("bf16", None),
    "bfloat16, batch norm in float32": ("bf16", norm_in_32),
    "weights rounded": ("fp32", rounding(weights=True)),
    "activations rounded": ("fp32", rounding(values=True)),
    "gradients rounded": ("fp32", rounding(gradients=True)),
    "all three rounded": ("fp32", rounding(True, True, True)),
}


def gradient(network, change, precision, images, labels):
    """One vector of the mean cross-entropy's gradient, of a copy of the network in training mode."""
    network = copy.deepcopy(network).train()
    if change:
        network.apply(change)
    with forward_precision(precision, CPU) if precision == "bf16" else contextlib.nullcontext():
        loss = F.cross_entropy(network(images), labels)
        parts = torch.autograd.grad(loss, list(network.parameters()))
    return torch.cat([part.flatten() for part in parts])


def batches(artefact, size, count):
    """(B, C, H, W) normalised and (B,), of the rows that the run was trained on."""
    facts = FACTS[artefact.request.source]
    images = np.load(Path(artefact.inputs["raw"].path, "images.npy"), mmap_mode="r")
    table = pd.read_parquet(artefact.inputs["biased"].path / "labels.parquet")
    table = table[table["split"] == "train"].sample(frac=1, random_state=0)
    mean, std = (torch.tensor(part).view(1, -1, 1, 1) for part in (facts.mean, facts.std))
    for start in range(0, count * size, size):
        rows = table.iloc[start : start + size]
        pixels = torch.from_numpy(np.ascontiguousarray(images[rows["index"]])).permute(0, 3, 1, 2) / 255
        shown = ((pixels - mean) / std).contiguous(memory_format=torch.channels_last)
        yield shown, torch.from_numpy(rows["label"].to_numpy(np.int64))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run")
    parser.add_argument("--batches", type=int, default=20)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    artefact = Plan(load(Path("params.yaml"))).train(options.run)
    recipe = artefact.request.recipe
    network = models.build(recipe.network, 3, FACTS[artefact.request.source].num_classes, 0)
    network.load_state_dict(load_file(artefact.path / "model.safetensors"))
    network = network.to(memory_format=torch.channels_last)
    found = {name: [] for name in (*WAYS, "sgd")}
    before = None
    for images, labels in batches(artefact, recipe.batch_size, options.batches):
        exact = gradient(network, None, "fp32", images, labels)
        for name, (precision, change) in WAYS.items():
            found[name].append((gradient(network, change, precision, images, labels), exact))
        if before is not None:
            found["sgd"].append((before, exact))
        before = exact
    measured = {
        name: {
            "error": float(np.mean([float((g - e).norm() / e.norm()) for g, e in pairs])),
            "length": float(np.mean([float(g @ e / (e @ e)) for g, e in pairs])),
        }
        for name, pairs in found.items()
    }
    print(json.dumps(measured, indent=1))
    report(options.json, CPU, {"run": options.run, "batches": options.batches, "measured": measured})


if __name__ == "__main__":
    main()
