"""How the cost of a step grows with the batch and with the network's width.

    python benchmarks/scaling.py --device cpu --json benchmarks/results/scaling-cpu.json

Plain ERM and CMW-Net with a meta step in every iteration; ResNet-32 of several widths.
"""

import argparse
from pathlib import Path

import torch
from common import interleaved, report
from step import Case

from cmw_pipeline.models.resnet32 import ResNet32


def case(device, batch_size, width):
    """A case of ``step.py`` on a network of this width."""
    found = Case(device, batch_size)
    wide = ResNet32(3, 10, width).to(device).train()
    optimizer = type(found.optimizer)(wide.parameters(), found.optimizer.options).to(device)
    for iterations in found.iterations.values():
        iterations.state.model, iterations.state.optimizer = wide, optimizer
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[25, 50, 100, 200])
    parser.add_argument("--widths", type=int, nargs="+", default=[8, 16, 32])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    device = torch.device(options.device)
    if device.type == "cpu":
        torch.set_num_threads(1)
    sizes = [(size, 16) for size in options.batch_sizes] + [(50, w) for w in options.widths if w != 16]
    actions = {}
    for size, width in sizes:
        found = case(device, size, width)
        actions[size, width, "erm"], actions[size, width, "lookahead"] = found.plain, found.lookahead
    taken = interleaved(actions, device, options.rounds)
    rows = []
    print(f"{'batch':>6}{'width':>6}{'ERM, µs an image':>20}{'CMW-Net / ERM':>16}")
    for size, width in sizes:
        erm, lookahead = (taken[size, width, kind] for kind in ("erm", "lookahead"))
        rows.append({"batch_size": size, "width": width, "erm_seconds": erm, "lookahead_seconds": lookahead})
        print(f"{size:6}{width:6}{1e6 * erm / size:20.1f}{lookahead / erm:16.2f}")
    report(options.json, device, {"rows": rows})


if __name__ == "__main__":
    main()
