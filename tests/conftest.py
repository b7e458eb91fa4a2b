"""Test-wide settings: one thread, so that equal runs are equal to the last bit, and nothing by the clock.

Processes import this checkout.
"""

import os
import sys
from collections import Counter
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, settings

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.support.processes import environment

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
def one_thread():
    torch.set_num_threads(1)
