"""How far runs are is read off what lies there, whoever made it and whether or not he still lives."""

import json

import pytest
from filelock import FileLock

from cmw_pipeline.config import Plan, load
from cmw_pipeline.config.cell import Cell
from cmw_pipeline.engine.states import State, chosen, state
from cmw_pipeline.errors import ConfigError
from cmw_pipeline.io.manifests import lock_path
from tests.support.processes import CHECKOUT

PLAN = Plan(load(CHECKOUT / "params.yaml"))
RUN = PLAN.run(Cell.parse("digits/asym-0.4/cmw-net/digits-cnn/seed0"))


def keep(root, step, **meta):
    folder = root / "results" / "checkpoints" / f"train-{RUN.digest}" / f"step-{step:08d}"
    folder.mkdir(parents=True)
    (folder / "state.json").write_text(json.dumps({"meta": meta}))


def record(accuracy):
    return {"scores": {} if accuracy is None else {"test": {"accuracy": accuracy}}}


def test_a_run_of_which_nothing_is_there_has_not_begun(tmp_path):
    assert state(RUN, tmp_path) == State("-", 0, 30)


def test_a_checkpoint_says_how_far_a_run_is_and_its_lock_whether_it_is_at_work(tmp_path):
    keep(tmp_path, 5, epoch=1, spent=10.0, records=[record(50.0)])
    keep(tmp_path, 12, epoch=10, spent=100.0, records=[record(50.0), record(80.5), record(None)])
    assert state(RUN, tmp_path) == State("begun", 10, 30, 80.5, 200.0)
    lock = lock_path("train", RUN.digest, tmp_path)
    lock.parent.mkdir(parents=True)
    with FileLock(lock):
        found = state(RUN, tmp_path)
    assert found.text == "running  10/30 epochs  80.50%  3 min left"


def test_a_damaged_checkpoint_is_passed_over(tmp_path):
    keep(tmp_path, 5, epoch=1, spent=10.0, records=[record(50.0)])
    keep(tmp_path, 12)
    (tmp_path / f"results/checkpoints/train-{RUN.digest}/step-00000012/state.json").write_text("{")
    assert state(RUN, tmp_path).epoch == 1


def test_a_finished_run_has_the_accuracy_of_its_last_evaluated_epoch(tmp_path):
    folder = tmp_path / RUN.path
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text("{}")
    (folder / "epochs.csv").write_text("epoch,lr,train_loss,accuracy\n0,1,1,90.0\n1,1,1,91.5\n2,1,1,\n")
    assert state(RUN, tmp_path).text == "done  91.50%"


def test_cells_are_chosen_by_what_they_are_called():
    wanted = {"method": "CMW-Net", "bias": "asym-0.4", "seed": 1}
    assert [cell.name for cell in chosen(PLAN, "demo", wanted)] == [
        "digits/asym-0.4/cmw-net/digits-cnn/seed1"
    ]
    assert chosen(PLAN, "demo", {"method": "cmw-net"}) == chosen(PLAN, "demo", {"method": "CMW-Net"})
    assert len(chosen(PLAN, "demo", {"method": None})) == len(PLAN.cells("demo"))


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ({"method": "cmw-nte"}, "no cell of the method cmw-nte; did you mean 'cmw-net'"),
        ({"seed": 9}, "no cell of the seed 9; there are: 0, 1, 2"),
    ],
)
def test_what_no_cell_is_called_is_said(wanted, said):
    with pytest.raises(ConfigError, match=said):
        chosen(PLAN, "demo", wanted)
