"""Test-wide settings: one thread, so that equal runs are equal to the last bit."""

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
collect_ignore = ["fuzz.py"]  # needs atheris


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)
