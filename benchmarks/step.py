"""Cost of one training step: plain, by double backward, and by our look-ahead.

    python benchmarks/step.py --device cpu --json benchmarks/results/step-cpu.json

The variants run interleaved, round after round, so that a machine that slows down slows them all; trust the
ratios. ``seconds`` is the median, ``peak_bytes`` the most tensor memory alive at once during a step beyond
what was alive before it, ``flops`` PyTorch's own count of one step.
"""

import argparse
import copy
import json
import platform
import statistics
import subprocess
import time
import warnings
from pathlib import Path

import torch
import torch.nn.functional as F
from torch.func import functional_call
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from cmw_pipeline.config.methods.losses import Erm as ErmOptions
from cmw_pipeline.config.methods.weighting import CmwNet as CmwOptions
from cmw_pipeline.config.schema import Sgd as SgdOptions
from cmw_pipeline.meta.tangent import Forward
from cmw_pipeline.methods.base import Batch, Problem
from cmw_pipeline.methods.registry import build
from cmw_pipeline.models.resnet32 import ResNet32
from cmw_pipeline.training.optim import Sgd
from cmw_pipeline.training.step import training_step

CLASSES, LR = 10, 0.1


class Case:
    """A model, a weighting and their optimisers, stepping on one fixed batch."""

    def __init__(self, device, batch_size):
        torch.manual_seed(0)
        self.model = ResNet32(3, CLASSES).to(device).train()
        labels = torch.arange(CLASSES).repeat_interleave(torch.arange(1, CLASSES + 1) * 50)
        problem = Problem(CLASSES, labels)
        options = CmwOptions(kind="cmw-net", label="-", meta_set="clean-10")
        self.method = build(options, problem, seed=0).to(device)
        self.erm = build(ErmOptions(kind="erm", label="-"), problem, seed=0)
        self.optimizer = Sgd(self.model.parameters(), SgdOptions(lr=LR)).to(device)
        self.batch, self.meta = (self._batch(device, batch_size) for _ in range(2))

    @staticmethod
    def _batch(device, size):
        images = torch.randn(size, 3, 32, 32, device=device)
        return Batch(images, torch.randint(CLASSES, (size,), device=device), torch.arange(size))

    def plain(self):
        training_step(self.model, self.erm, self.optimizer, self.batch, None)

    def lookahead(self):
        training_step(self.model, self.method, self.optimizer, self.batch, self.meta)

    def low_memory(self):
        training_step(self.model, self.method, self.optimizer, self.batch, self.meta, lean=True)

    def lookahead_by_forward_mode(self):
        replayed, Forward.tangent = Forward.tangent, Forward.repeated
        try:
            self.lookahead()
        finally:
            Forward.tangent = replayed

    def double_backward(self):
        """The published structure: a fresh copy, a second-order graph, ``backward()`` through all of it."""
        model = copy.deepcopy(self.model)
        meta_loss = self._meta_loss_ahead(model)
        self.method.zero_grad()
        meta_loss.backward()  # fills the gradients of the copy's weights as well
        self._finish([parameter.grad for parameter in self.method.adam.moved])

    def functional_double_backward(self):
        """The same without the copy, and differentiating by the weighting's parameters alone."""
        meta_loss = self._meta_loss_ahead(self.model)
        self._finish(torch.autograd.grad(meta_loss, self.method.adam.moved))

    def _meta_loss_ahead(self, model):
        weights = dict(model.named_parameters())
        z = functional_call(model, (weights, self._buffers(model)), (self.batch.images,))
        loss = self.method.objective(z, self.batch)
        slopes = torch.autograd.grad(loss, list(weights.values()), create_graph=True)
        ahead = {name: w - LR * g for (name, w), g in zip(weights.items(), slopes, strict=True)}
        z = functional_call(model, (ahead, self._buffers(model)), (self.meta.images,))
        return F.cross_entropy(z, self.meta.labels)

    def _finish(self, gradient):
        self.method.adam.update(gradient)
        loss = self.method.objective(self.model(self.batch.images), self.batch)
        self.optimizer.update(torch.autograd.grad(loss, self.optimizer.moved))

    @staticmethod
    def _buffers(model):
        return {name: buffer.clone() for name, buffer in model.named_buffers()}


VARIANTS = {
    "erm": Case.plain,
    "double_backward": Case.double_backward,
    "functional_double_backward": Case.functional_double_backward,
    "lookahead": Case.lookahead,
    "low_memory": Case.low_memory,
    "lookahead_by_forward_mode": Case.lookahead_by_forward_mode,
}


def seconds(case, step, device):
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    step(case)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def peak_bytes(case, step, device):
    if device.type == "cuda":
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        step(case)
        return torch.cuda.max_memory_allocated(device) - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as prof:
        step(case)
    events = [e for e in prof.profiler.kineto_results.events() if e.name() == "[memory]"]
    alive = peak = 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        alive += event.nbytes()
        peak = max(peak, alive)
    return peak


def flops(case, step):
    with FlopCounterMode(display=False) as counter:
        step(case)
    return counter.get_total_flops()


def measure(device, batch_size, rounds):
    cases = {name: Case(device, batch_size) for name in VARIANTS}
    times = {name: [] for name in VARIANTS}
    for count in range(rounds + 2):
        for name, step in VARIANTS.items():
            taken = seconds(cases[name], step, device)
            if count >= 2:  # two rounds to warm up
                times[name].append(taken)
    return {
        name: {
            "seconds": statistics.median(times[name]),
            "peak_bytes": peak_bytes(cases[name], step, device),
            "flops": flops(cases[name], step),
        }
        for name, step in VARIANTS.items()
    }


def commit():
    done = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    return done.stdout.strip()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--batch-size", type=int, default=100, help="of the training and the meta batch")
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    warnings.filterwarnings("ignore", category=FutureWarning)
    if options.device == "cpu":
        torch.set_num_threads(1)
    device = torch.device(options.device)
    steps = measure(device, options.batch_size, options.rounds)
    erm = steps["erm"]
    print(f"ResNet-32, {options.batch_size} + {options.batch_size} images, {options.device}, x ERM step")
    print(f"{'':28}{'time':>8}{'memory':>8}{'FLOPs':>8}")
    for name, cost in steps.items():
        ratios = [cost[key] / erm[key] for key in ("seconds", "peak_bytes", "flops")]
        print(f"{name:28}" + "".join(f"{ratio:8.2f}" for ratio in ratios))
    machine = torch.cuda.get_device_name() if options.device == "cuda" else platform.machine()
    report = {
        "machine": machine,
        "torch": torch.__version__,
        "commit": commit(),
        "batch_size": options.batch_size,
        "rounds": options.rounds,
        "steps": steps,
    }
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
