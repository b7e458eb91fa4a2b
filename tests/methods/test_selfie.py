"""SELFIE: which samples it trains on and on what label; its restarts keep what was corrected."""

import dataclasses
import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from scipy.stats import entropy

from cmw_pipeline.config.document import read_document
from cmw_pipeline.config.plan import Plan
from cmw_pipeline.config.schema import Params
from cmw_pipeline.errors import ConfigError
from cmw_pipeline.methods.base import Batch, Problem
from cmw_pipeline.methods.registry import build
from cmw_pipeline.runtime.signals import StopRequest
from cmw_pipeline.training.loop import train
from tests.support.tiny import CLASSES, loss_of, options, recipe, state, task

LABELS = torch.repeat_interleave(torch.arange(CLASSES), 6)
PROBLEM = Problem(CLASSES, LABELS)


def method(problem=PROBLEM, **changes):
    made = build(
        options("selfie", **({"start_epoch": 0, "window": 3, "entropy": 0.05} | changes)), problem, seed=1
    )
    made.begin_epoch(0)
    return made


def batch(rows):
    rows = torch.as_tensor(rows)
    return Batch(torch.empty(0), LABELS[rows], rows)


def saying(classes, sure=6.0):
    return sure * F.one_hot(torch.as_tensor(classes), CLASSES).float()


def tell(made, rows, epochs):
    """What is predicted of the rows in epoch after epoch."""
    for epoch, classes in enumerate(epochs):
        made.begin_epoch(epoch)
        made.observe(saying(classes), batch(rows))


def test_a_sample_is_refurbished_once_its_last_predictions_agree():
    made = method()
    tell(made, [0, 7, 14], [[1, 2, 3], [1, 2, 0], [1, 3, 0]])
    assert (made.corrected == -1).all()  # what is predicted in a pass counts from the next one on
    made.begin_epoch(3)
    made.observe(saying([2, 2, 0]), batch([0, 7, 14]))
    assert made.corrected[[0, 7, 14]].tolist() == [1, -1, -1]  # the three before agreed; differed; differed
    made.begin_epoch(4)
    made.observe(saying([0, 0, 1]), batch([0, 7, 14]))
    assert made.corrected[[0, 7, 14]].tolist() == [1, -1, 0]  # it stays; 2 3 2 differ; the last three agreed
    assert made.labels(batch([0, 7, 14])).tolist() == [1, LABELS[7], 0]


def test_fewer_predictions_than_the_window_are_never_enough():
    made = method(window=5)
    tell(made, [0], [[1]] * 5)
    assert made.corrected[0] == -1
    tell(made, [0], [[1]] * 6)
    assert made.corrected[0] == 1


@pytest.mark.parametrize("seen", [[1, 1, 1, 1], [1, 1, 1, 2], [1, 1, 2, 2], [0, 1, 2, 3]])
def test_certainty_is_scipys_entropy_over_log_k(seen):
    shares = torch.bincount(torch.tensor(seen), minlength=CLASSES) / 4
    share = entropy(shares) / math.log(CLASSES)
    for threshold, certain in ((min(share + 1e-4, 1.0), True), (share - 1e-4, False)):
        if threshold < 0:
            continue
        made = method(window=4, entropy=threshold)
        tell(made, [5], [[label] for label in seen])
        found, favourite = made.judged(torch.tensor([5]))
        assert found.tolist() == [certain]
        assert shares[favourite] == shares.max()


def test_the_loss_is_the_mean_over_small_losses_and_refurbished_samples():
    made = method(forget_rate=0.5)
    tell(made, [3], [[2]] * 4)
    rows = [3, 4, 10, 20]
    z = torch.randn(4, CLASSES, generator=torch.Generator().manual_seed(0))
    z[0] = saying([2])[0]  # a large loss with the given label
    given = F.cross_entropy(z, LABELS[rows], reduction="none")
    assert given.argmax() == 0
    small = given.argsort()[:2].tolist()
    targets = LABELS[rows].clone()
    targets[0] = 2
    losses = F.cross_entropy(z, targets, reduction="none")
    torch.testing.assert_close(loss_of(made, z, batch(rows)), losses[[0, *small]].mean())


@pytest.mark.parametrize(
    ("rate", "size", "kept"), [(0.08, 128, 118), (0.4, 100, 60), (0.36, 100, 64), (1, 9, 0)]
)
def test_so_many_small_losses_are_kept(rate, size, kept):
    made = method(Problem(CLASSES, torch.zeros(size, dtype=torch.int64)), forget_rate=rate)
    rows = torch.arange(size)
    weights = made.weights(torch.rand(size), Batch(torch.empty(0), rows * 0, rows))
    assert weights.sum() == kept


def test_in_the_warm_up_all_samples_count_and_nothing_is_refurbished():
    made = method(start_epoch=9)
    tell(made, [0, 1], [[1, 1]] * 4)
    assert (made.corrected == -1).all()
    z = torch.randn(2, CLASSES)
    torch.testing.assert_close(loss_of(made, z, batch([0, 1])), F.cross_entropy(z, LABELS[:2]))
    made.begin_epoch(9)
    made.observe(saying([1, 1]), batch([0, 1]))
    assert made.corrected[:2].tolist() == [1, 1]  # the history of the warm-up counts


def test_a_restart_keeps_the_corrections_and_leaves_out_no_more_than_the_rest():
    corrected = torch.full((24,), -1)
    corrected[:18] = 3
    again = dataclasses.replace(PROBLEM, first_memory={"corrected": corrected})
    first = {"method": "selfie-1"}
    made = method(again, forget_rate=0.4, first=first)
    assert made.forget_rate == 0.25 and torch.equal(made.corrected, corrected)
    assert (made.history == -1).all()
    assert method(again, forget_rate=0.1, first=first).forget_rate == 0.1
    made.corrected[0] = 1
    assert corrected[0] == 3  # its own copy
    early = method(again, start_epoch=2, first=first)
    z = torch.randn(3, CLASSES)
    torch.testing.assert_close(
        loss_of(early, z, batch([0, 1, 23])), F.cross_entropy(z, torch.tensor([3, 3, 3]))
    )


def test_a_restart_from_another_method_is_refused():
    with pytest.raises(ConfigError, match="'erm', keeps no corrected labels"):
        method(first={"method": "erm"})


@pytest.mark.parametrize("neutral", [True, False])
def test_with_nothing_left_out_and_nothing_certain_it_trains_exactly_as_erm(tmp_path, neutral):
    changes = {"start_epoch": 1, "forget_rate": 0.0 if neutral else 0.4, "window": 20}
    ends = []
    for kind, more in (("erm", {}), ("selfie", changes)):
        run = task(kind, recipe=recipe(ema=None), **more)
        end = state(run, kind, **more)
        train(run, end, StopRequest(), tmp_path / kind)
        ends.append(torch.cat([p.detach().flatten() for p in end.model.parameters()]))
    assert torch.allclose(*ends, rtol=1e-4, atol=1e-6) == neutral


@pytest.mark.parametrize("loop", [{"selfie": "selfie"}, {"selfie": "again", "again": "selfie"}])
def test_a_run_that_starts_from_itself_is_refused_in_one_line(loop):
    body = read_document(Path(__file__).parents[2] / "params.yaml").values
    for name, first in loop.items():
        options = {"kind": "selfie", "label": name, "forget_rate": 0.4, "first": {"method": first}}
        body["methods"][name] = options
    plan = Plan(Params.model_validate(body))
    with pytest.raises(ConfigError, match="starts from itself"):
        plan.train("digits/asym-0.4/selfie/digits-cnn/seed0")
