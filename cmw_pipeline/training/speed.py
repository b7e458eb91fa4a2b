"""How fast this machine trains, and how many operations a network takes: what estimates are made of."""

import time

import torch
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from cmw_pipeline.config.schema import Network
from cmw_pipeline.models.registry import build

_STEP = ("small-cnn", 1, 8, 100)
"""Network, channels, side, batch: so small that all of its time is what a step takes besides operations."""
_SPEED = (("resnet32", 3, 32, 50), ("preact-resnet18", 3, 32, 16))
"""A narrow network and a wide one, between which the others lie."""
_ROUNDS = 3
_FORWARDS = 3
"""What a step is worth: a backward pass takes two."""


def forward_flops(network: Network, channels: int, side: int, classes: int) -> int:
    """Floating-point operations of a forward pass of one picture."""
    model = build(network, channels, classes, 0).eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(torch.zeros(1, channels, side, side))
    return int(counter.get_total_flops())


def measure(device: torch.device) -> dict[str, float]:
    """Seconds of a step besides its operations, and the speed with them in FLOP/s, of two networks.

    On a CPU by one thread, which is what a run has under Snakemake.

    Returns:
        ``step``, ``slow`` and ``fast``; a few seconds on a CPU.
    """
    torch.set_num_threads(1)
    step = _step_seconds(*_STEP, device)
    speeds = []
    for name, channels, side, batch in _SPEED:
        flops = _FORWARDS * batch * forward_flops(_network(name), channels, side, 10)
        seconds = _step_seconds(name, channels, side, batch, device)
        speeds.append(flops / max(seconds - step, seconds / 10))
    return {"step": step, "slow": min(speeds), "fast": max(speeds)}


def _step_seconds(name: str, channels: int, side: int, batch: int, device: torch.device) -> float:
    """The fastest of a few steps of plain training."""
    model = build(_network(name), channels, 10, 0).to(device).train()
    images = torch.rand(batch, channels, side, side, device=device)
    labels = torch.arange(batch, device=device) % 10
    clock = time.process_time if device.type == "cpu" else time.perf_counter  # others' work counts not
    taken = []
    for _ in range(_ROUNDS + 1):
        began = clock()
        functional.cross_entropy(model(images), labels).backward()  # type: ignore[no-untyped-call]
        with torch.no_grad():
            for weight in (weights := list(model.parameters())):
                if weight.grad is not None:
                    weight.sub_(weight.grad, alpha=0.01)
                weight.grad = None
            float(weights[-1].sum())  # waits for the device
        taken.append(clock() - began)
    return min(taken[1:])


def _network(name: str) -> Network:
    return Network.model_validate({"name": name})
