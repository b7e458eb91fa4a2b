"""Every loss of 50 training steps is the one on record: nothing in the arithmetic has moved unnoticed.

After a change that is meant to move it: ``python tests/test_golden.py`` writes the record anew.
"""

import json
import platform
import sys
import tempfile
from pathlib import Path
from unittest.mock import patch

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
from tiny import recipe, state, task

from cmw_pipeline.runtime.signals import StopRequest
from cmw_pipeline.training import loop, program

RECORD = Path(__file__).with_name("golden_losses.json")
CASES = {
    "erm": ("erm", {}),
    "mw-net": ("mw-net", {}),
    "cmw-net": ("cmw-net", {}),
    "cmw-net sum": ("cmw-net", {"normalisation": "sum", "start_epoch": 1}),
    "cmw-net lowest": ("cmw-net", {"meta_set": "lowest-3", "meta_every": 2}),
}


def losses(case):
    """Training loss of each step: 5 epochs of 10 steps, without dropout."""
    kind, changes = CASES[case]
    body = recipe(epochs=5, batch_size=4, optimizer={"lr": 0.02}, ema=None)
    run = task(kind, recipe=body, **changes)
    found = []

    def spy(*args):
        found.append(step(*args))
        return found[-1]

    step = program.training_step
    with patch.object(program, "training_step", spy), tempfile.TemporaryDirectory() as side:
        loop.train(run, state(run, kind, dropout=0.0, **changes), StopRequest(), Path(side))
    return [float(loss) for loss in found]


def machine():
    """What the last digits depend on."""
    lines = Path("/proc/cpuinfo").read_text().split("\n\n")[0].splitlines()
    facts = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    cpu = [facts.get(key, "") for key in ("vendor_id", "cpu family", "model", "stepping", "cache size")]
    return {
        "torch": torch.__version__,
        "cpu": " ".join([platform.machine(), *cpu]),
        "instructions": torch.backends.cpu.get_cpu_capability(),
    }


@pytest.mark.parametrize("case", CASES)
def test_fifty_losses_are_those_on_record(case):
    record = json.loads(RECORD.read_text())
    found, expected = losses(case), record["losses"][case]
    assert len(found) == len(expected) == 50
    if machine() == record["machine"]:
        assert found == expected  # JSON keeps every digit of a float
    else:
        assert found == pytest.approx(expected, rel=1e-5)


def test_the_cases_differ_so_that_each_tests_something_of_its_own():
    record = json.loads(RECORD.read_text())["losses"]
    assert record.keys() == CASES.keys()
    assert len({tuple(values) for values in record.values()}) == len(CASES)


if __name__ == "__main__":
    torch.set_num_threads(1)
    body = {"machine": machine(), "losses": {case: losses(case) for case in CASES}}
    RECORD.write_text(json.dumps(body, indent=1) + "\n")
