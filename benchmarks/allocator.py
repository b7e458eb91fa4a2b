"""Processor time of a step with and without the memory that training keeps, in processes that take turns.

python benchmarks/allocator.py --json benchmarks/results/allocator-cpu.json
"""

import argparse
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch
from common import report
from step import Case

from cmw_pipeline.runtime.memory import keep_memory

WAYS = {"fp32": {}, "bf16": {"precision": "bf16", "channels_last": True}}
STEPS = {"ERM": Case.plain, "CMW-Net": Case.lookahead}


def measure(way, step, count=8):
    """CPU milliseconds of a step of ResNet-32 at batch 100, one thread, and thousands of page faults."""
    torch.set_num_threads(1)
    case = Case(torch.device("cpu"), 100, WAYS[way])
    for _ in range(2):
        STEPS[step](case)
    faults, began = resource.getrusage(resource.RUSAGE_SELF).ru_minflt, time.process_time()
    for _ in range(count):
        STEPS[step](case)
    taken = 1e3 * (time.process_time() - began) / count
    return taken, (resource.getrusage(resource.RUSAGE_SELF).ru_minflt - faults) / count / 1e3


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--one", nargs=3, metavar=("KEPT", "WAY", "STEP"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        kept, way, step = options.one
        if kept == "kept":
            keep_memory()
        print(*measure(way, step))
        return
    rows = {}
    for way in WAYS:
        for step in STEPS:
            pairs = [
                [asked(kept, way, step) for kept in ("given-back", "kept")] for _ in range(options.rounds)
            ]
            ratios = [given[0] / kept[0] for given, kept in pairs]
            row = {
                "cpu_ms": [statistics.median(p[n][0] for p in pairs) for n in (0, 1)],
                "kilofaults": [statistics.median(p[n][1] for p in pairs) for n in (0, 1)],
                "ratio": [min(ratios), statistics.median(ratios), max(ratios)],
            }
            rows[f"{step}, {way}"] = row
            print(f"{step}, {way}: {row['ratio'][1]:.2f} x ({row['ratio'][0]:.2f} to {row['ratio'][2]:.2f})")
    report(options.json, torch.device("cpu"), {"rounds": options.rounds, "rows": rows})


def asked(kept, way, step):
    """One measurement in a process of its own."""
    command = [sys.executable, __file__, "--one", kept, way, step]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return [float(word) for word in done.stdout.split()]


if __name__ == "__main__":
    main()
