"""Runs that share a machine or a device are processes of their own, and none changes another's result."""

import subprocess
import sys

import pytest
import torch

from tests.support.processes import environment
from tests.training.test_resume import finished

KINDS = ["erm", "erm/cmw-net", "soft-labels/cmw-net"]
WORKER = """
import sys, torch
from pathlib import Path
from tests.training.test_resume import finished
print("ready", flush=True)
sys.stdin.readline()
folder = Path(sys.argv[1], sys.argv[2].replace("/", "-"))
final = finished(folder, sys.argv[2], {})
torch.save([t.detach() for t in final.tensors()], f"{folder}.pt")
"""


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    """All kinds at once, started at the same moment."""
    folder = tmp_path_factory.mktemp("packed")
    runs = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, str(folder), kind],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment(),
        )
        for kind in KINDS
    ]
    for run in runs:
        assert run.stdout.readline().strip() == "ready"
    for run in runs:
        run.communicate("go\n", timeout=1800)
        assert run.returncode == 0
    return folder


@pytest.mark.parametrize("kind", KINDS)
def test_packed_is_alone(packed, tmp_path, kind):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        alone = finished(tmp_path, kind, {})
    finally:
        torch.set_num_threads(threads)
    found = torch.load(packed / f"{kind.replace('/', '-')}.pt", weights_only=True)
    assert all(torch.equal(a, b) for a, b in zip(alone.tensors(), found, strict=True))
