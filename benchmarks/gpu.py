"""What a GPU has to tell us, in a given time: tests, costs of a step, throughput, real cells.

    PYTHONPATH=. python benchmarks/gpu.py --minutes 25 --out DIR --data cifar10=FOLDER cifar100=FOLDER

Everything runs in the order of its worth, each part in a process of its own, and is written to DIR as it
finishes: ``NAME.log`` and ``NAME.json``, and of the cells a row each in ``cells.csv`` and the run itself in
``runs/``. A part that fails or takes too long takes none of the others with it. Cells that are cut off
continue from their checkpoints when the same command is called again.

Needs neither Snakemake nor DVC: the stages run as ``cmw`` commands. Several cells share the GPU, by NVIDIA's
multi-process service where it can be started.
"""

import argparse
import csv
import fnmatch
import os
import queue
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pandas as pd
import torch
from common import machine

from cmw_pipeline.config import Plan, load

HERE = Path(__file__).parent
CMW = [sys.executable, "-c", "from cmw_pipeline.cli import main; main()"]
CELLS = [
    "table1:cifar10/lt-100/*/seed0",
    "table2:cifar10/asym-0.4/erm/*/seed0",
    "table2:cifar10/asym-0.4/cmw-net-noise/*/seed0",
    "table1:cifar100/lt-100/*/seed0",
    "table1:cifar10/lt-100/*",
    "table2:cifar10/asym-0.4/mw-net-noise/*/seed0",
    "table1:cifar100/lt-100/*",
    "table2:cifar10/sym-0.4/erm/*/seed0",
    "table2:cifar10/sym-0.4/*w-net-noise/*/seed0",
]
"""``TABLE:PATTERN`` of cell names, most wanted first."""


def parts(out, cells, device):
    """Name, command and seconds at most of each part but the cells."""
    python = [sys.executable]
    ways = ["--device", device]
    steps = ["erm", "double_backward", "lookahead", "low_memory"]
    if device == "cuda":
        steps += ["erm_captured", "lookahead_captured", "erm_tf32_captured", "lookahead_tf32_captured"]
        steps += ["erm_bf16_captured", "lookahead_bf16_captured"]
    few = [] if device == "cuda" else ["--rounds", "2"]
    return {
        "tests": ([*python, "-m", "pytest", "-q", "-n", "4", "tests/training/test_gpu.py"], 240),
        "step": ([*python, HERE / "step.py", *ways, *few, "--only", *steps], 180),
        "packing": ([*python, HERE / "packing.py", *ways, "--runs", "1", "2", "4", "8", "--capture"], 180),
        "throughput": ([*python, HERE / "throughput.py", *ways, *few], 240),
    }


def run_part(name, command, seconds, out, environment):
    """One part in a process of its own, killed with all it started when its time is over."""
    log = out / f"{name}.log"
    asks = [] if name == "tests" else ["--json", out / f"{name}.json"]
    began = time.monotonic()
    with log.open("w") as file:
        process = subprocess.Popen(
            [str(word) for word in [*command, *asks]],
            stdout=file,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
        )
        try:
            code = process.wait(timeout=max(seconds, 1))
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            code = "killed: out of time"
    print(f"--- {name}: {code}, {time.monotonic() - began:.0f} s", flush=True)
    print("\n".join(log.read_text().splitlines()[-30:]), flush=True)


class Cells:
    """Trains cells, several at a time, each in a process, until the time is over."""

    def __init__(self, plan, out, environment, end):
        self.plan, self.out, self.environment, self.end = plan, out, environment, end
        self.lock = threading.Lock()
        self.running = set()

    def asked(self, wanted):
        """The runs of the cells in order of worth, each once."""
        runs = {}
        for entry in wanted:
            table, _, pattern = entry.partition(":")
            found = [cell for cell in self.plan.cells(table) if fnmatch.fnmatchcase(cell.name, pattern)]
            runs |= {cell.name: self.plan.run(cell) for cell in found}
        return list(runs.values())

    def prepare(self, runs, data):
        """The data, biases and meta-sets of the runs; what is there stays."""
        needed = {source.path: source for run in runs for source in self._before(run)}
        for artefact in needed.values():
            if artefact.stage in ("download", "inject", "metaset"):
                local = data.get(artefact.name) if artefact.stage == "download" else None
                extra = ["--from", local, "--accept-unverified"] if local else []
                self._command([artefact.stage, artefact.name, *extra], self.out / "prepare.log").wait()

    def _before(self, artefact):
        for source in artefact.inputs.values():
            yield from self._before(source)
            yield source

    def _command(self, words, log):
        file = log.open("a")
        return subprocess.Popen(
            [*CMW, *map(str, words)],
            stdout=file,
            stderr=subprocess.STDOUT,
            env=self.environment,
            start_new_session=True,
        )

    def train(self, runs, at_a_time):
        """Train the cells; at the end of the time the running ones checkpoint and stop."""
        todo = queue.SimpleQueue()
        for run in runs:
            todo.put(run)
        workers = [threading.Thread(target=self._work, args=(todo,)) for _ in range(at_a_time)]
        for worker in workers:
            worker.start()
        while any(worker.is_alive() for worker in workers):
            time.sleep(1)
            if time.monotonic() > self.end:
                with self.lock:
                    for process in self.running:
                        process.terminate()
                break
        for worker in workers:
            worker.join()

    def _work(self, todo):
        while time.monotonic() < self.end:
            try:
                run = todo.get_nowait()
            except queue.Empty:
                return
            for artefact in self._before(run):
                if artefact.stage in ("train", "transfer", "export"):
                    self._one(artefact)
            self._one(run)

    def _one(self, artefact):
        """Make one run or what it starts from; a manifest says that it is there already."""
        if Path(artefact.manifest).exists():
            return
        began = time.monotonic()
        log = self.out / "logs" / (artefact.name.replace("/", "--") + ".log")
        log.parent.mkdir(parents=True, exist_ok=True)
        with self.lock:
            process = self._command([artefact.stage, artefact.name], log)
            self.running.add(process)
        code = process.wait()
        with self.lock:
            self.running.discard(process)
            if artefact.stage != "export":
                self._record(artefact, code, time.monotonic() - began)

    def _record(self, artefact, code, seconds):
        """A row in ``cells.csv``, and a copy of the run without its predictions."""
        name, folder = artefact.name, Path(str(artefact.path))
        score = ""
        if code == 0:
            rows = pd.read_parquet(folder / "rows.parquet")
            last = rows[(rows["protocol"] == "last") & (rows["metric"] == "accuracy")]
            score = round(float(last["value"].iloc[0]), 3)
            kept = self.out / "runs" / folder.relative_to("results")
            skipped = shutil.ignore_patterns(
                "predictions.parquet", "model.safetensors", "teacher.safetensors"
            )
            shutil.copytree(folder, kept, dirs_exist_ok=True, ignore=skipped)
        file = self.out / "cells.csv"
        new = not file.exists()
        with file.open("a", newline="") as handle:
            writer = csv.writer(handle)
            if new:
                writer.writerow(["cell", "exit", "accuracy_last", "seconds", "digest"])
            writer.writerow([name, code, score, round(seconds, 1), artefact.digest])
        print(f"{name}: exit {code}, {score}, {seconds:.0f} s", flush=True)


def shared_gpu(environment):
    """Start NVIDIA's multi-process service, so that kernels of several processes run side by side."""
    control = shutil.which("nvidia-cuda-mps-control")
    if control is None or "CUDA_MPS_PIPE_DIRECTORY" in environment:
        return "no multi-process service was started: there is none here, or it runs already"
    folder = Path("/tmp/mps")
    folder.mkdir(exist_ok=True)
    places = {"CUDA_MPS_PIPE_DIRECTORY": str(folder), "CUDA_MPS_LOG_DIRECTORY": str(folder)}
    done = subprocess.run([control, "-d"], env=environment | places, capture_output=True, text=True)
    if done.returncode == 0:
        environment.update(places)
    return f"multi-process service: {done.returncode} {done.stdout}{done.stderr}".strip()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=25)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--parts", nargs="*", default=["tests", "step", "packing", "throughput", "cells"])
    parser.add_argument("--cells", nargs="*", default=CELLS)
    parser.add_argument("--at-a-time", type=int, default=8)
    parser.add_argument("--data", nargs="*", default=[], help="DATASET=FOLDER of copies to read")
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    parser.add_argument("--no-sharing", action="store_true", help="without the multi-process service")
    options = parser.parse_args()
    end = time.monotonic() + 60 * options.minutes
    options.out.mkdir(parents=True, exist_ok=True)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CMW_PARAMS": str(options.params)}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(Path.cwd()), os.environ.get("PYTHONPATH")]))
    print(f"{machine(torch.device(device))}, torch {torch.__version__}", flush=True)
    for name, (command, seconds) in parts(options.out, options.cells, device).items():
        if name in options.parts:
            run_part(name, command, min(seconds, end - time.monotonic()), options.out, environment)
    if "cells" in options.parts:
        if device == "cuda" and not options.no_sharing:
            print(shared_gpu(environment), flush=True)
        environment.setdefault("CMW_RUNS_PER_GPU", str(options.at_a_time))
        cells = Cells(Plan(load(options.params)), options.out, environment, end)
        runs = cells.asked(options.cells)
        cells.prepare(runs, dict(entry.split("=", 1) for entry in options.data))
        cells.train(runs, options.at_a_time)


if __name__ == "__main__":
    main()
