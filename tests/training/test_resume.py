"""A run that was stopped continues exactly, from every step; what is left out of a checkpoint shows."""

import os
import signal
import time

import pytest
import torch

from cmw_pipeline.errors import IntegrityError, Preempted, SystemFault
from cmw_pipeline.io import checkpoints
from cmw_pipeline.io.checkpoints import load_latest, save_checkpoint
from cmw_pipeline.runtime.signals import StopRequest, stop_requests
from cmw_pipeline.training.loop import train
from tests.support.tiny import GOOD_PAIRS, recipe, state, task

VARIANTS = [
    ("erm/cmw-net", {"weighting": {"normalisation": "sum", "meta_every": 2}}),
    ("erm/cmw-net", {"weighting": {"meta_set": "lowest-3", "start_epoch": 1}}),
    ("erm/cmw-net", {"weighting": {"meta_set": "random-min"}}),
    ("erm/cmw-net", {"weighting": {"levels": "bounded", "level_power": 2.0}}),
    ("erm/cmw-net", {"weighting": {"meta_set": "any-12", "meta_loss": "dac-mr"}}),
    ("erm/mw-net", {"weighting": {"meta_set": "any-12", "meta_loss": "clid-mu"}}),
    ("erm/mcw", {"start_epoch": 1}),
    ("soft-labels/cmw-net", {"start_epoch": 1, "memory": 0.9, "weighting": {"meta_mixup": 1.0}}),
    ("soft-labels/cmw-net", {"partner_weight": "permuted", "teacher_until": 2}),
    ("soft-labels/cmw-net", {"start_epoch": 1, "strong_view": True}),
    ("soft-labels/frozen", {"memory": 0.9, "memory_top": 2}),
    ("ldam/class-balanced", {"weighting": {"start_epoch": 2}}),
    ("gce", {"threshold": 0.3, "prune_from": 1, "prune_every": 1}),
    ("lrt", {"correct_after": 0, "window": 2, "ratio": 0.5, "anchor_interval": 2}),
    ("dynamic-loss", {"primary_share": 0.8, "strong_view": "weak"}),
    ("sop", {"consistency": 0.9, "balance": 0.1, "start_epoch": 1}),
    ("co-teaching", {"ramp_epochs": 2}),
    ("peer-learning", {"ramp_epochs": 2}),
    ("elr-plus", {"strength_ramp": 10, "teacher_ramp": 10}),
    ("m-correction", {"guided_epoch": 1, "bootstrap_epoch": 2, "targets": "annealed"}),
    ("dividemix", {"history": 2}),
    ("dividemix", {"start_epoch": 0, "gradient_views": "strong"}),
    ("fixmatch/cmw-net", {"weighting": {"meta_set": "labelled", "meta_every": 2}}),
]
"""Options that give a method or a weighting more to remember, or another phase to be stopped in."""


class StopAfter(StopRequest):
    """Asks to stop once the loop has looked ``steps`` times."""

    def __init__(self, steps):
        super().__init__()
        self.steps = steps

    def __bool__(self):
        self.steps -= 1
        if self.steps <= 0:
            self.reason = "the test"
        return self.reason is not None


def finished(folder, kind, changes, epochs=3, **kwargs):
    run = task(kind, recipe=recipe(epochs=epochs), **changes)
    final = state(run, kind, **changes)
    train(run, final, StopRequest(), folder, **kwargs)
    return final


def interrupted_at(step, folder, kind, changes, epochs=3):
    run = task(kind, recipe=recipe(epochs=epochs), **changes)
    with pytest.raises(Preempted):
        train(run, state(run, kind, **changes), StopAfter(step), folder)


def assert_equal(a, b):
    tensors_a, meta_a = a.pack()
    tensors_b, meta_b = b.pack()
    assert tensors_a.keys() == tensors_b.keys()
    different = [name for name in tensors_a if not torch.equal(tensors_a[name], tensors_b[name])]
    assert different == []
    for key in meta_a:
        if key == "records":
            timeless = [
                [{k: v for k, v in r.items() if k != "evaluation_seconds"} for r in m[key]]
                for m in (meta_a, meta_b)
            ]
            assert timeless[0] == timeless[1]
        elif key != "spent":
            assert meta_a[key] == meta_b[key]


def test_a_resumed_run_knows_what_its_earlier_attempts_took(tmp_path):
    run = task("erm")
    began = time.monotonic()
    first, second = state(run, "erm"), state(run, "erm")
    for attempt, steps in ((first, 3), (second, 3)):
        with pytest.raises(Preempted):
            train(run, attempt, StopAfter(steps), tmp_path)
    earlier = train(run, state(run, "erm"), StopRequest(), tmp_path)
    assert 0 < first.spent < second.spent == earlier < time.monotonic() - began


@pytest.mark.parametrize(
    ("kind", "changes", "epochs"),
    [*((pair, {}, 2) for pair in GOOD_PAIRS), *((*variant, 3) for variant in VARIANTS)],
    ids=lambda value: str(value)[:80],
)
def test_a_run_stopped_after_every_single_step_is_bitwise_the_run_that_was_not(
    tmp_path, kind, changes, epochs
):
    """Each step is resumed from the checkpoint after the one before, by an object that knows nothing else."""
    reference = finished(tmp_path / "whole", kind, changes, epochs)
    for _ in range(reference.iteration):
        torch.manual_seed(12345)  # whatever the new process drew before
        interrupted_at(1, tmp_path / "cut", kind, changes, epochs)
    assert load_latest(tmp_path / "cut")[1]["iteration"] == reference.iteration
    assert_equal(finished(tmp_path / "cut", kind, changes, epochs), reference)


@pytest.mark.parametrize("kind", ["erm/cmw-net", "dividemix"])
def test_a_run_stopped_once_after_any_step_is_too(tmp_path, kind):
    reference = finished(tmp_path / "whole", kind, {})
    for step in range(1, reference.iteration + 1):
        folder = tmp_path / f"at{step}"
        interrupted_at(step, folder, kind, {})
        assert_equal(finished(folder, kind, {}), reference)


def test_two_runs_of_one_seed_are_bitwise_equal_and_two_seeds_differ(tmp_path):
    same = [finished(tmp_path / name, "erm/cmw-net", {}) for name in ("a", "b")]
    assert_equal(*same)
    other = task("erm/cmw-net", seed=1)
    final = state(other)
    train(other, final, StopRequest(), tmp_path / "c")
    assert not torch.equal(final.model.features[0].weight, same[0].model.features[0].weight)


@pytest.mark.parametrize(
    "left_out", ["rng.cpu", "optimizer.", "method.weighting.adam.", "method.", "teacher.", "meta_rows"]
)
def test_leaving_anything_out_of_the_checkpoint_would_show(tmp_path, left_out):
    """Negative controls: the equality above can fail."""
    kind, changes = "erm/cmw-net", {"weighting": {"meta_set": "lowest-3", "meta_every": 2}}
    reference = finished(tmp_path / "whole", kind, changes)
    interrupted_at(6, tmp_path / "cut", kind, changes)
    tensors, meta = load_latest(tmp_path / "cut")
    run = task(kind, **changes)
    fresh = state(run, kind, **changes)
    torch.manual_seed(777)
    blank = fresh.pack()[0]
    touched = [name for name in tensors if name.startswith(left_out)]
    assert touched
    for name in touched:
        tensors[name] = blank.get(name, torch.zeros_like(tensors[name]))
        if name == "meta_rows":
            tensors[name] = torch.arange(12)
    save_checkpoint(tmp_path / "forged", 6, tensors, meta)
    train(run, fresh, StopRequest(), tmp_path / "forged")
    with pytest.raises(AssertionError):
        assert_equal(fresh, reference)


def test_leaving_out_the_epoch_shows_because_the_schedule_depends_on_it(tmp_path):
    reference = finished(tmp_path / "whole", "erm", {})
    interrupted_at(6, tmp_path / "cut", "erm", {})
    tensors, meta = load_latest(tmp_path / "cut")
    save_checkpoint(tmp_path / "forged", 6, tensors, meta | {"epoch": 0})
    run = task("erm")
    fresh = state(run, "erm")
    train(run, fresh, StopRequest(), tmp_path / "forged")
    assert not torch.equal(fresh.model.features[0].weight, reference.model.features[0].weight)


def test_checkpointing_does_not_change_the_result(tmp_path):
    often = finished(tmp_path / "often", "erm/cmw-net", {}, checkpoint_seconds=0.0)
    assert_equal(often, finished(tmp_path / "never", "erm/cmw-net", {}))
    assert len(list((tmp_path / "often").iterdir())) == 2  # only the newest two are kept


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR2, signal.SIGHUP])
def test_a_signal_leaves_one_valid_checkpoint_and_its_own_exit_code(tmp_path, number):
    if number == signal.SIGHUP:
        signal.signal(number, signal.SIG_DFL)  # the tests may run under nohup
    run = task()
    with stop_requests() as stop, pytest.raises(Preempted, match=number.name) as raised:
        os.kill(os.getpid(), number)
        os.kill(os.getpid(), number)  # asking twice changes nothing
        train(run, state(run), stop, tmp_path)
    assert raised.value.exit_code == 143
    _, meta = load_latest(tmp_path)
    assert (meta["epoch"], meta["step"]) == (0, 1)
    assert signal.getsignal(number) not in (None, stop)


def test_a_run_under_nohup_does_not_stop_when_its_terminal_closes(tmp_path):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stop_requests() as stop:
            os.kill(os.getpid(), signal.SIGHUP)
            assert not stop
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def corrupt(path, how):
    data = path.read_bytes()
    middle = len(data) // 2
    flipped = data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]
    path.write_bytes({"truncated": data[:-7], "flipped": flipped, "empty": b""}[how])


@pytest.mark.parametrize("file", ["state.safetensors", "state.json"])
@pytest.mark.parametrize("how", ["truncated", "flipped", "empty"])
def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(tmp_path, file, how, caplog):
    kind, changes = "erm/cmw-net", {}
    reference = finished(tmp_path / "whole", kind, changes)
    run = task(kind)
    with pytest.raises(Preempted):
        train(run, state(run, kind), StopAfter(7), tmp_path / "cut", checkpoint_seconds=0.0)
    newest = sorted((tmp_path / "cut").iterdir())[-1]
    corrupt(newest / file, how)
    assert_equal(finished(tmp_path / "cut", kind, changes), reference)
    assert newest.name in caplog.text


def test_no_whole_checkpoint_is_an_error_not_a_fresh_start(tmp_path):
    interrupted_at(3, tmp_path, "erm", {})
    for folder in tmp_path.iterdir():
        corrupt(folder / "state.safetensors", "flipped")
    run = task("erm")
    with pytest.raises(IntegrityError, match="no checkpoint is whole"):
        train(run, state(run, "erm"), StopRequest(), tmp_path)


def test_checkpoints_of_another_method_are_refused(tmp_path):
    interrupted_at(3, tmp_path, "erm/mw-net", {})
    run = task("erm/cmw-net")
    with pytest.raises(IntegrityError, match="checkpoints of another run"):
        train(run, state(run, "erm/cmw-net"), StopRequest(), tmp_path)


def test_a_newer_format_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoints, "FORMAT", 99)
    save_checkpoint(tmp_path, 1, {"a": torch.ones(1)}, {})
    monkeypatch.undo()
    with pytest.raises(IntegrityError):
        load_latest(tmp_path)


def test_killed_while_saving_keeps_the_earlier_checkpoint(tmp_path, monkeypatch):
    save_checkpoint(tmp_path, 1, {"a": torch.ones(1)}, {"epoch": 0})

    def killed(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoints, "file_entry", killed)
    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(tmp_path, 2, {"a": torch.zeros(1)}, {})
    monkeypatch.undo()
    assert [p.name for p in tmp_path.iterdir()] == ["step-00000001"]
    assert torch.equal(load_latest(tmp_path)[0]["a"], torch.ones(1))


def test_a_full_disk_is_one_line_and_leaves_earlier_checkpoints(tmp_path):
    """A file-size limit stands in for the full disk: the same system call fails in the same place."""
    import resource

    save_checkpoint(tmp_path, 1, {"a": torch.ones(10)}, {})
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
    try:
        with pytest.raises(SystemFault):
            save_checkpoint(tmp_path, 2, {"a": torch.ones(1_000_000)}, {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)
    assert [p.name for p in tmp_path.iterdir()] == ["step-00000001"]


def test_resume_holds_for_every_schedule(tmp_path):
    for number, schedule in enumerate(
        [
            {"name": "steps", "milestones": [1, 2], "factor": 0.1},
            {"name": "restarts", "start": 1, "period": 1, "floor": 0.01},
            {"name": "constant", "warmup_epochs": 2},
        ]
    ):
        body = recipe(schedule=schedule)
        run = task("erm/mw-net", recipe=body)
        whole = state(run, "erm/mw-net")
        train(run, whole, StopRequest(), tmp_path / f"w{number}")
        with pytest.raises(Preempted):
            train(run, state(run, "erm/mw-net"), StopAfter(6), tmp_path / f"c{number}")
        resumed = state(run, "erm/mw-net")
        train(run, resumed, StopRequest(), tmp_path / f"c{number}")
        assert_equal(resumed, whole)
