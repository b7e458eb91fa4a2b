"""Test-wide settings: one thread, so that equal runs are equal to the last bit.

Processes import this checkout.
"""

import os
import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.support.processes import environment

os.environ["PYTHONPATH"] = environment()["PYTHONPATH"]
collect_ignore = ["data/fuzz.py"]  # needs atheris


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)
