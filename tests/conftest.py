"""Test-wide settings, so that a test ends alike on every machine, after whatever other test, under any load.

One thread, so that equal runs are equal to the last bit; nothing by the clock; draws that no test before has
moved on; no variable of ours, of a cluster or of a proxy. Processes import this checkout.
"""

import os
import random
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, settings

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.support.processes import environment

for name in list(os.environ):
    if name.startswith(("CMW_", "DVC_", "SLURM_", "TORCHELASTIC_", "RANK", "LOCAL_RANK", "WORLD_SIZE")):
        del os.environ[name]
os.environ |= {"no_proxy": "*", "NO_PROXY": "*"}
os.environ["PYTHONPATH"] = environment()["PYTHONPATH"]
collect_ignore = ["data/fuzz.py"]  # needs atheris
settings.register_profile(
    "suite",
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("suite")


def pytest_collection_modifyitems(items):
    """The files that take longest come first, so that no worker is left alone with one at the end."""
    long = {item.path for item in items if item.get_closest_marker("workflow")}
    tests = Counter(item.path for item in items)
    items.sort(key=lambda item: (item.path not in long, -tests[item.path]))


@pytest.fixture(autouse=True)
def alike():
    torch.set_num_threads(1)
    torch.manual_seed(0)
    np.random.seed(0)
    random.seed(0)
