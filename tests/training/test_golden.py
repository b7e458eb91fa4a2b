"""Every loss of 50 training steps is the one on record: nothing in the arithmetic has moved unnoticed.

The record is held to ``TOLERANCE``, because the last digits depend on the machine: processors, instruction
sets and thread counts that were tried differ by up to 2.4e-6, and a learning rate wrong by a thousandth
moves the losses by more than 1e-3. Two processes on one machine agree to the last bit.

After a change that is meant to move it: ``python tests/training/test_golden.py`` writes the record anew.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from unittest.mock import patch

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[2]))
from cmw_pipeline.runtime.signals import StopRequest
from cmw_pipeline.training import loop, program, step
from tests.support.processes import environment
from tests.support.tiny import recipe, state, task

RECORD = Path(__file__).with_name("golden_losses.json")
TOLERANCE = 1e-4
"""Relative, of each loss."""
CASES = {
    "erm": ("erm", {}),
    "mw-net": ("erm/mw-net", {}),
    "cmw-net": ("erm/cmw-net", {}),
    "cmw-net sum": ("erm/cmw-net", {"weighting": {"normalisation": "sum", "start_epoch": 1}}),
    "cmw-net lowest": ("erm/cmw-net", {"weighting": {"meta_set": "lowest-3", "meta_every": 2}}),
}
SGD = {"lr": 0.02, "momentum": 0.9, "weight_decay": 5e-4}


def losses(case, sgd=SGD):
    """Training loss of each step: 5 epochs of 10 steps, without dropout."""
    kind, changes = CASES[case]
    body = recipe(epochs=5, batch_size=4, optimizer=sgd, ema=None)
    run = task(kind, recipe=body, **changes)
    found = []

    def spy(*args):
        found.append(one_step(*args))
        return found[-1]

    one_step = program.training_step
    with patch.object(program, "training_step", spy), tempfile.TemporaryDirectory() as side:
        loop.train(run, state(run, kind, dropout=0.0, **changes), StopRequest(), Path(side))
    return [float(loss) for loss in found]


def on_record(case):
    expected = json.loads(RECORD.read_text())[case]
    assert len(expected) == 50
    return pytest.approx(expected, rel=TOLERANCE)


@pytest.mark.parametrize("case", CASES)
def test_fifty_losses_are_those_on_record(case):
    assert losses(case) == on_record(case)


@pytest.mark.parametrize("wrong", [{"lr": 0.02002}, {"momentum": 0.901}, {"weight_decay": 5.5e-4}])
@pytest.mark.parametrize("case", CASES)
def test_a_step_that_is_slightly_wrong_is_not_on_record(case, wrong):
    assert losses(case, SGD | wrong) != on_record(case)


@pytest.mark.parametrize("case", [case for case in CASES if case != "erm"])
def test_a_meta_gradient_that_does_not_look_ahead_is_not_on_record(case, monkeypatch):
    """The meta loss's slope at the weights themselves, in the place of that after the virtual step."""
    exact = step.lookahead_gradient

    def short(forward, objective, images, meta_objective, lr, *rest):
        return exact(forward, objective, images, meta_objective, lr * 1e-6, *rest)

    monkeypatch.setattr(step, "lookahead_gradient", short)
    assert losses(case) != on_record(case)


def test_two_processes_agree_to_the_last_bit():
    command = "import json; from tests.training.test_golden import CASES, losses; "
    command += "print(json.dumps({case: losses(case) for case in CASES}))"
    pair = [
        subprocess.Popen(
            [sys.executable, "-c", command], env=environment(), stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    first, second = (json.loads(process.communicate()[0]) for process in pair)
    assert first == second  # JSON keeps every digit of a float
    assert {len(values) for values in first.values()} == {50}


def test_the_cases_differ_so_that_each_tests_something_of_its_own():
    record = json.loads(RECORD.read_text())
    assert record.keys() == CASES.keys()
    assert len({tuple(values) for values in record.values()}) == len(CASES)


if __name__ == "__main__":
    torch.set_num_threads(1)
    RECORD.write_text(json.dumps({case: losses(case) for case in CASES}, indent=1) + "\n")
