"""What the benchmarks share: interleaved timing, and a report that says where it was taken."""

import json
import os
import platform
import statistics
import subprocess
import time
from pathlib import Path

import torch


def commit():
    """The checked-out commit, short; empty outside a repository."""
    try:
        done = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    except OSError:
        return ""
    return done.stdout.strip()


def machine(device):
    """Name of the device, as far as it says one."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.machine()}, {os.cpu_count()} processors"


def seconds(action, device):
    """One timed call, the device waited for."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    action()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def interleaved(actions, device, rounds, warm_up=2):
    """Median seconds of each action; round after round, so that a slow machine slows them all."""
    times = {name: [] for name in actions}
    for count in range(rounds + warm_up):
        for name, action in actions.items():
            taken = seconds(action, device)
            if count >= warm_up:
                times[name].append(taken)
    return {name: statistics.median(taken) for name, taken in times.items()}


def report(path, device, body):
    """Write the JSON with where and on what it was measured."""
    if path is None:
        return
    about = {"machine": machine(device), "torch": torch.__version__, "commit": commit()}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(about | body, indent=1) + "\n")
