"""Several runs on one device: as processes of their own, and as threads of one process.

    python benchmarks/packing.py --device cuda --json benchmarks/results/packing-cuda.json

Every run is CMW-Net on ResNet-32 at batch 100 + 100. ``together`` is the images a second of all runs, against
those of one run that has the device to itself.
"""

import argparse
import subprocess
import sys
import threading
import time
from pathlib import Path

import torch
from common import report
from step import Case

BATCH = 100


def steps(case, device, count):
    """So many steps, on a stream of this thread's own."""
    stream = torch.cuda.Stream(device) if device.type == "cuda" else None
    with torch.cuda.stream(stream):
        for _ in range(count):
            case.lookahead()
    if stream is not None:
        stream.synchronize()


def as_threads(device, runs, count, ways):
    cases = [Case(device, BATCH, ways) for _ in range(runs)]
    for case in cases:
        steps(case, device, 5)
    threads = [threading.Thread(target=steps, args=(case, device, count)) for case in cases]
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return runs * count * BATCH / (time.perf_counter() - start)


def as_processes(device, runs, count, capture):
    """Each warms up, says so, waits for the word, and steps."""
    command = [sys.executable, __file__, "--device", device.type, "--worker", str(count)]
    command += ["--capture"] if capture else []
    started = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(runs)
    ]
    for process in started:
        assert process.stdout.readline().strip() == "ready"
    start = time.perf_counter()
    for process in started:
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in started:
        assert process.stdout.readline().strip() == "done"
    taken = time.perf_counter() - start
    for process in started:
        process.wait()
    return runs * count * BATCH / taken


def worker(device, count, ways):
    case = Case(device, BATCH, ways)
    steps(case, device, 5)
    print("ready", flush=True)
    sys.stdin.readline()
    steps(case, device, count)
    print("done", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--runs", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--capture", action="store_true", help="steps captured in CUDA graphs")
    parser.add_argument("--worker", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    device = torch.device(options.device)
    if device.type == "cpu":
        torch.set_num_threads(1)
    ways = {"capture": options.capture}
    if options.worker:
        worker(device, options.worker, ways)
        return
    rows = []
    for runs in options.runs:
        threads = as_threads(device, runs, options.steps, ways)
        processes = as_processes(device, runs, options.steps, options.capture)
        rows.append({"runs": runs, "threads": threads, "processes": processes})
        print(f"{runs} runs: {processes:10,.0f} images/s as processes, {threads:10,.0f} as threads")
    report(options.json, device, {"steps": options.steps, "capture": options.capture, "rows": rows})


if __name__ == "__main__":
    main()
