"""Group levels bounded by class size: the formula, its bounds, and one function in run and file."""

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from cmw_pipeline.config.methods import KINDS
from cmw_pipeline.meta.levels import BoundedLevels
from cmw_pipeline.meta.weighting import load_weighting, save_weighting
from cmw_pipeline.meta.weights import Weights
from cmw_pipeline.runtime.signals import StopRequest
from cmw_pipeline.training.loop import train
from cmw_pipeline.training.outcome import losses_and_weights
from tests.methods.test_pairs import by_double_backward
from tests.support.tiny import options, recipe, state, task

COUNTS = np.array([100, 100, 20, 4])
GROUPS = np.array([2, 2, 1, 0])
BOUNDED = {"weighting": {"levels": "bounded"}}
PAIRS = ["erm/cmw-net", "erm/mw-net", "ldam/cmw-net", "soft-labels/cmw-net"]


def batch(seed=0, rows=60, groups=3):
    draw = torch.Generator().manual_seed(seed)
    values = torch.rand(rows, generator=draw, dtype=torch.float64)
    return values, torch.randint(groups, (rows,), generator=draw)


def by_formula(values, groups, power):
    """Sample by sample, as the docstring has it."""
    v, g = values.numpy(), groups.numpy()
    sizes = [COUNTS[k == GROUPS].mean() for k in range(3)]
    m = v.mean()
    u = []
    for vi, gi in zip(v, g, strict=True):
        h = power / 2 * np.log(COUNTS.mean() / sizes[gi])
        own = v[g == gi].mean()
        u.append(vi / own * np.exp(h + abs(h) * np.tanh((np.log(own / m) - h) / abs(h))))
    return np.array(u) / np.mean(u) * m


@pytest.mark.parametrize("power", [1.0, 3.0])
def test_weights_are_those_of_the_formula(power):
    values, groups = batch()
    found = BoundedLevels(COUNTS, GROUPS, 3, power)(values, groups)
    assert found.numpy() == pytest.approx(by_formula(values, groups, power), rel=1e-6)
    assert float(found.mean()) == pytest.approx(float(values.mean()))


@pytest.mark.parametrize("scale", [1e-4, 0.1, 1.0, 30.0])
def test_a_group_weighs_as_its_size_justifies_however_high_or_low_its_function(scale):
    """Of two groups, the small one's mean weight is 1 to (n of the large/n of the small)^p of the other's."""
    levels = BoundedLevels(np.array([40, 10]), np.array([1, 0]), 2, 2.0)
    values, groups = batch(groups=2)
    values = torch.where(groups == 0, values * scale, values) / 31
    found = levels(values, groups)
    ratio = float(found[groups == 0].mean() / found[groups == 1].mean())
    assert 1 - 1e-6 <= ratio <= (40 / 10) ** 2 + 1e-6


def test_the_common_scale_of_the_function_changes_no_ratio_and_has_no_gradient():
    values, groups = batch()
    levels = BoundedLevels(COUNTS, GROUPS, 3, 3.0)
    assert levels(values / 7, groups) * 7 == pytest.approx(levels(values, groups), rel=1e-9)
    scale = torch.ones((), dtype=torch.float64, requires_grad=True)
    losses = torch.rand(60, dtype=torch.float64)
    mean = values.mean()
    weights = BoundedLevels(np.array([9]), np.array([0]), 1, 3.0)(values * scale, torch.zeros(60).long())
    (slope,) = torch.autograd.grad((weights * losses).mean(), scale)
    assert abs(float(slope)) < 1e-3 * float(mean)


def test_a_group_without_a_sample_in_the_batch_or_without_a_class_does_no_harm():
    levels = BoundedLevels(np.array([50, 50]), np.array([1, 1]), 3, 3.0)
    values = torch.rand(5).requires_grad_()
    weights = levels(values, torch.ones(5).long())
    (slope,) = torch.autograd.grad((weights * torch.arange(5.0)).sum(), values)
    assert torch.isfinite(weights).all()
    assert torch.isfinite(slope).all()
    assert torch.isfinite(levels.factors(values, torch.ones(5).long())).all()


# --- in training


@pytest.mark.parametrize("pair", PAIRS)
def test_the_meta_gradient_is_that_of_double_backward(pair, tmp_path, monkeypatch):
    from cmw_pipeline.training import step

    before, original, seen = torch.get_default_dtype(), step.lookahead_gradient, []

    def compared(*arguments):
        found = original(*arguments)
        for ours, theirs in zip(found, by_double_backward(*arguments), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-10)
        seen.append(max(float(slope.abs().max()) for slope in found))
        return found

    monkeypatch.setattr(step, "lookahead_gradient", compared)
    torch.set_default_dtype(torch.float64)
    try:
        run = task(pair, recipe=recipe(epochs=2), **BOUNDED)
        train(run, state(run, pair, dropout=0.0, **BOUNDED), StopRequest(), tmp_path)
    finally:
        torch.set_default_dtype(before)
    assert max(seen) > 0


def ended(pair, folder, changes=BOUNDED):
    run = task(pair, recipe=recipe(epochs=2), **changes)
    begun = state(run, pair, **changes)
    train(run, begun, StopRequest(), folder)
    return run, begun


def test_the_exported_function_says_of_the_training_samples_what_the_run_recorded(tmp_path):
    run, done = ended("erm/cmw-net", tmp_path / "side")
    losses, weights = losses_and_weights(run, done)
    weighting = done.method.weighting
    (tmp_path / "function").mkdir()
    save_weighting(tmp_path / "function", weighting.net, weighting.groups.numpy(), {})
    function = load_weighting(tmp_path / "function")
    inside = losses <= function.net.loss_max
    assert inside.sum() > 20
    assert torch.equal(function(losses, run.problem.labels)[inside], weights[inside])
    groups = weighting.groups[run.problem.labels]
    free = torch.sigmoid(weighting.net.heads(torch.relu(weighting.net.trunk(losses[:, None]))))
    expected = weighting.levels(free.gather(1, groups[:, None])[:, 0], groups)
    assert weights == pytest.approx(expected.detach(), rel=1e-5)


def test_free_levels_leave_no_trace_in_the_state():
    run = task("erm/cmw-net")
    names = set(state(run, "erm/cmw-net").method.state_dict())
    assert not [name for name in names if "level" in name]


# --- what a weight lacks to 1


def test_above_1_there_is_nothing_left_to_give_to_a_soft_label():
    values = torch.tensor([0.25, 1.0, 1.5], requires_grad=True)
    rest = Weights(values).rest.values
    assert rest.tolist() == [0.75, 0.0, 0.0]
    rest.sum().backward()
    assert values.grad[0] == -1
    assert values.grad[2] == 0


def test_soft_labels_take_bounded_levels_and_refuse_weights_that_are_no_shares():
    options("soft-labels/cmw-net", **BOUNDED)
    with pytest.raises(ValidationError, match="no shares of 1; use mw-net, cmw-net or frozen"):
        KINDS["soft-labels"](kind="soft-labels", weighting={"kind": "class-balanced"})
