"""Cost of one training step: plain, by double backward, and by our look-ahead.

    python benchmarks/step.py --device cpu --json benchmarks/results/step-cpu.json

The variants run interleaved, round after round, so that a machine that slows down slows them all; trust the
ratios. ``seconds`` is the median, ``peak_bytes`` the most tensor memory alive at once during a step beyond
what was alive before it, ``flops`` PyTorch's own count of one step.
"""

import argparse
import copy
import functools
import warnings
from importlib.util import find_spec
from pathlib import Path

import torch
import torch.nn.functional as F
from common import interleaved, report
from torch.func import functional_call
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from cmw_pipeline.config.methods.losses import Erm as ErmOptions
from cmw_pipeline.config.schema import Optimizer, Recipe
from cmw_pipeline.config.weightings import CmwNet as CmwOptions
from cmw_pipeline.meta.optimizers import Sgd
from cmw_pipeline.meta.tangent import Forward
from cmw_pipeline.methods.base import Batch, Problem
from cmw_pipeline.methods.registry import build
from cmw_pipeline.models.resnet32 import ResNet32
from cmw_pipeline.training.precision import use_tf32
from cmw_pipeline.training.program import Iterations
from cmw_pipeline.training.state import TrainState

CLASSES, LR = 10, 0.1
RECIPE = {"network": {"name": "resnet32"}, "optimizer": {"lr": LR}, "epochs": 1, "batch_size": 100}


class Case:
    """A model, a weighting and their optimisers, stepping on one fixed batch in the ways of a recipe."""

    def __init__(self, device, batch_size, ways=None):
        torch.manual_seed(0)
        self.recipe = Recipe.model_validate(RECIPE | (ways or {}))
        model = ResNet32(3, CLASSES).to(device).train()
        self.order = torch.channels_last if self.recipe.channels_last else torch.contiguous_format
        self.model = model.to(memory_format=self.order)
        labels = torch.arange(CLASSES).repeat_interleave(torch.arange(1, CLASSES + 1) * 50)
        problem = Problem(CLASSES, labels)
        weighting = CmwOptions(kind="cmw-net", meta_set="clean-10")
        options = ErmOptions(kind="erm", label="-", weighting=weighting)
        self.method = build(options, problem, seed=0).to(device)
        erm = build(ErmOptions(kind="erm", label="-"), problem, seed=0)
        self.optimizer = Sgd(self.model.parameters(), Optimizer(lr=LR)).to(device)
        self.batch, self.meta = (self._batch(device, batch_size) for _ in range(2))
        self.iterations = {m: Iterations(self._state(m, device), self.recipe) for m in (self.method, erm)}
        self.erm = erm

    def _state(self, method, device):
        total = torch.zeros((), dtype=torch.float64, device=device)
        return TrainState(self.model, method, self.optimizer, None, device, torch.empty(0), total)

    def _batch(self, device, size):
        images = torch.randn(size, 3, 32, 32, device=device).contiguous(memory_format=self.order)
        labels = torch.randint(CLASSES, (size,), device=device)
        return Batch(images, labels, torch.arange(size, device=device))

    def plain(self):
        use_tf32(self.recipe.precision)
        self.iterations[self.erm].run(self.batch, None)

    def lookahead(self):
        use_tf32(self.recipe.precision)
        self.iterations[self.method].run(self.batch, self.meta)

    def low_memory(self):
        self.iterations[self.method].recipe = self.recipe.model_copy(update={"low_memory": True})
        self.lookahead()

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
        self.finish([parameter.grad for parameter in self.method.adam.trained])

    def functional_double_backward(self):
        """The same without the copy, and differentiating by the weighting's parameters alone."""
        meta_loss = self._meta_loss_ahead(self.model)
        self.finish(torch.autograd.grad(meta_loss, self.method.adam.trained))

    def _meta_loss_ahead(self, model):
        weights = dict(model.named_parameters())
        z = functional_call(model, (weights, self._buffers(model)), (self.batch.images,))
        loss = self.method.objective(z, self.batch)
        slopes = torch.autograd.grad(loss, list(weights.values()), create_graph=True)
        ahead = {name: w - LR * g for (name, w), g in zip(weights.items(), slopes, strict=True)}
        z = functional_call(model, (ahead, self._buffers(model)), (self.meta.images,))
        return F.cross_entropy(z, self.meta.labels)

    def convolutions(self):
        """An ERM step's convolutions alone; 10/3 of their time is a floor of the look-ahead."""
        if not hasattr(self, "convolved"):
            self.convolved = self._convolutions()
        for x, w, y, layer in self.convolved:
            settings = (layer.stride, layer.padding, layer.dilation, False, (0, 0), 1)
            torch.ops.aten.convolution(x, w, None, *settings)
            needed = (x.shape[1] != 3, True, False)
            torch.ops.aten.convolution_backward(y, x, w, None, *settings, needed)

    def _convolutions(self):
        """Input, weight, output and layer of each."""
        seen = []
        dtype = torch.bfloat16 if self.recipe.precision == "bf16" else torch.float32

        def note(layer, inputs, output):
            tensors = (inputs[0], layer.weight, output)
            seen.append((*(t.detach().to(dtype, memory_format=self.order) for t in tensors), layer))

        layers = [m for m in self.model.modules() if isinstance(m, torch.nn.Conv2d)]
        hooks = [layer.register_forward_hook(note) for layer in layers]
        self.model(self.batch.images)
        for hook in hooks:
            hook.remove()
        return seen

    def finish(self, gradient):
        """Move the weighting by its gradient, then the classifier by its own."""
        self.method.adam.update(gradient)
        loss = self.method.objective(self.model(self.batch.images), self.batch)
        self.optimizer.update(torch.autograd.grad(loss, self.optimizer.trained))

    @staticmethod
    def _buffers(model):
        return {name: buffer.clone() for name, buffer in model.named_buffers()}


VARIANTS = {
    "erm": (Case.plain, {}),
    "double_backward": (Case.double_backward, {}),
    "functional_double_backward": (Case.functional_double_backward, {}),
    "lookahead": (Case.lookahead, {}),
    "lookahead_by_forward_mode": (Case.lookahead_by_forward_mode, {}),
    "low_memory": (Case.low_memory, {}),
    "erm_channels_last": (Case.plain, {"channels_last": True}),
    "lookahead_channels_last": (Case.lookahead, {"channels_last": True}),
    "erm_bf16_channels_last": (Case.plain, {"channels_last": True, "precision": "bf16"}),
    "lookahead_bf16_channels_last": (Case.lookahead, {"channels_last": True, "precision": "bf16"}),
    "convolutions_bf16_channels_last": (Case.convolutions, {"channels_last": True, "precision": "bf16"}),
    "low_memory_bf16_channels_last": (Case.low_memory, {"channels_last": True, "precision": "bf16"}),
}
COMPILED = {
    "lookahead_compiled": (Case.lookahead, {"channels_last": True, "compile": True}),
    "lookahead_bf16_compiled": (
        Case.lookahead,
        {"channels_last": True, "precision": "bf16", "compile": True},
    ),
}
CAPTURED = {
    "erm_captured": (Case.plain, {"capture": True}),
    "erm_tf32_captured": (Case.plain, {"precision": "tf32", "capture": True}),
    "erm_bf16_captured": (Case.plain, {"channels_last": True, "precision": "bf16", "capture": True}),
    "lookahead_captured": (Case.lookahead, {"capture": True}),
    "lookahead_tf32_captured": (Case.lookahead, {"precision": "tf32", "capture": True}),
    "lookahead_bf16_captured": (
        Case.lookahead,
        {"channels_last": True, "precision": "bf16", "capture": True},
    ),
}


def with_higher(case):
    """The virtual step by ``higher`` (Grefenstette et al. 2019)."""
    import higher

    inner = torch.optim.SGD(case.model.parameters(), lr=LR)
    with higher.innerloop_ctx(case.model, inner, copy_initial_weights=False) as (model, ahead):
        ahead.step(case.method.objective(model(case.batch.images), case.batch))
        meta_loss = F.cross_entropy(model(case.meta.images), case.meta.labels)
        gradient = torch.autograd.grad(meta_loss, case.method.adam.trained)
    case.finish(gradient)


def with_torchopt(case):
    """The virtual step by ``torchopt``'s differentiable SGD."""
    import torchopt

    ahead = torchopt.MetaSGD(case.model, lr=LR)
    before = torchopt.extract_state_dict(case.model, by="reference", detach_buffers=True)
    ahead.step(case.method.objective(case.model(case.batch.images), case.batch))
    meta_loss = F.cross_entropy(case.model(case.meta.images), case.meta.labels)
    gradient = torch.autograd.grad(meta_loss, case.method.adam.trained)
    torchopt.recover_state_dict(case.model, before)
    case.finish(gradient)


PEERS = {"higher": with_higher, "torchopt": with_torchopt}


def peak_bytes(action, device):
    """The most tensor memory alive at once during a call, beyond what was alive before it."""
    if device.type == "cuda":
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        action()
        return torch.cuda.max_memory_allocated(device) - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as prof:
        action()
    events = [e for e in prof.profiler.kineto_results.events() if e.name() == "[memory]"]
    alive = peak = 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        alive += event.nbytes()
        peak = max(peak, alive)
    return peak


def flops(action):
    """PyTorch's own count of one call."""
    with FlopCounterMode(display=False) as counter:
        action()
    return counter.get_total_flops()


def asked_for(options, device):
    """The variants of this call, each on a case of its own."""
    variants = dict(VARIANTS)
    variants |= COMPILED if options.compile else {}
    variants |= CAPTURED if device.type == "cuda" else {}
    variants |= {name: (step, {}) for name, step in PEERS.items() if find_spec(name)}
    if options.only:
        variants = {name: variants[name] for name in options.only}
    return {
        name: functools.partial(step, Case(device, options.batch_size, ways))
        for name, (step, ways) in variants.items()
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--batch-size", type=int, default=100, help="of the training and the meta batch")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--compile", action="store_true", help="compiled variants too: minutes each")
    parser.add_argument("--only", nargs="+", help="these variants alone; erm among them")
    options = parser.parse_args()
    warnings.filterwarnings("ignore", category=FutureWarning)
    device = torch.device(options.device)
    if device.type == "cpu":
        torch.set_num_threads(1)
    actions = asked_for(options, device)
    taken = interleaved(actions, device, options.rounds, warm_up=5 if device.type == "cuda" else 2)
    steps = {
        name: {
            "seconds": taken[name],
            "peak_bytes": peak_bytes(action, device),
            "flops": None if "compiled" in name or "captured" in name else flops(action),
        }
        for name, action in actions.items()
    }
    print(f"ResNet-32, {options.batch_size} + {options.batch_size} images, {options.device}, x ERM step")
    print(f"{'':32}{'time':>8}{'memory':>8}{'FLOPs':>8}")
    for name, cost in steps.items():
        pairs = [(cost[key], steps["erm"][key]) for key in ("seconds", "peak_bytes", "flops")]
        print(f"{name:32}" + "".join(f"{'':>8}" if a is None else f"{a / b:8.2f}" for a, b in pairs))
    report(options.json, device, {"batch_size": options.batch_size, "rounds": options.rounds, "steps": steps})


if __name__ == "__main__":
    main()
