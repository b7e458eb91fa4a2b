"""What holds of every method under every weighting, and which pairs are refused, in the file's words."""

import copy
import functools
import tempfile
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from torch.func import functional_call

from cmw_pipeline.config.methods import KINDS
from cmw_pipeline.config.weightings import WeightingBase
from cmw_pipeline.methods import registry
from cmw_pipeline.methods.base import Method
from cmw_pipeline.methods.weightings.base import Weighting, Weights
from cmw_pipeline.runtime.signals import StopRequest
from cmw_pipeline.training import step
from cmw_pipeline.training.loop import train
from tests.support.tiny import GOOD_PAIRS, LEARNING_PAIRS, METHODS, PAIRS, options, recipe, state, task
from tests.training.test_resume import assert_equal, finished

REFUSED = sorted(set(PAIRS) - set(GOOD_PAIRS))


# --- which pairs there are


@pytest.mark.parametrize("pair", [*METHODS, *(f"erm/{weighting}" for weighting in WeightingBase.kinds)])
def test_every_kind_resolves(pair):
    made = registry.build(options(pair), task(pair).problem, 0)
    assert isinstance(made, Method)
    assert isinstance(made.weighting, Weighting)
    assert made.facts is KINDS[pair.partition("/")[0]]


def test_every_method_stands_alone():
    assert {f"{kind}/uniform" for kind in METHODS} <= set(GOOD_PAIRS)


@pytest.mark.parametrize("pair", REFUSED)
def test_a_senseless_pair_is_refused_with_the_reason_in_one_line(pair):
    kind, _, weighting = pair.partition("/")
    with pytest.raises(ValidationError) as refused:
        options(pair)
    (problem,) = refused.value.errors()
    text = problem["msg"]
    assert text.startswith(f"Value error, {kind} ")
    assert "\n" not in text
    assert (KINDS[kind].why_no_weighting or f"those of {weighting} are no shares of 1") in text


def test_what_weighs_by_losses_alone_can_be_under_every_plain_loss():
    """The paper's claim: the weighting is a plug-in."""
    plain = ("erm", "focal", "gce", "ldam", "sade", "elr", "proden", "fixmatch", "selective-net")
    for kind in plain:
        assert {f"{kind}/{weighting}" for weighting in WeightingBase.kinds} <= set(GOOD_PAIRS)


# --- the weights


def test_what_weighted_losses_are_divided_by():
    losses, values = torch.tensor([1.0, 2.0, 6.0]), torch.tensor([0.5, 0.25, 0.0])
    for normalisation, expected in (("mean", 1 / 3), ("sum", 1 / 0.75), ("none", 1.0)):
        weights = Weights(values, normalisation)
        assert float(weights.mean(losses)) == pytest.approx(expected)
        assert float((weights.factors() * losses).mean()) == pytest.approx(expected)
    assert Weights(values).rest.values.tolist() == [0.5, 0.75, 1.0]
    assert Weights(values).of(torch.tensor([2, 0])).values.tolist() == [0.0, 0.5]


def test_the_sum_of_weights_may_be_over_some_samples_only():
    weights = Weights(torch.tensor([0.5, 0.25, 0.0]), "sum")
    assert weights.factors(torch.tensor([0.0, 1.0, 1.0])).tolist() == [4.0, 2.0, 0.0]
    assert Weights(torch.zeros(3), "sum").factors().tolist() == [0.0, 0.0, 0.0]


# --- the meta step


@pytest.fixture
def double():
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


def by_double_backward(forward, objective, meta_images, meta_objective, lr, theta, drift=None):
    """The meta gradient through a second-order graph of the whole look-ahead, as in the published code."""
    weights = {name: p for name, p in forward.model.named_parameters() if p.requires_grad}

    def run(at, images):
        buffers = {name: buffer.clone() for name, buffer in forward.model.named_buffers()}
        return functional_call(forward.model, at | buffers, (images,))

    slopes = torch.autograd.grad(
        objective(run(weights, forward.images)),
        list(weights.values()),
        create_graph=True,
        materialize_grads=True,
    )
    drift = drift or [torch.zeros(())] * len(slopes)
    moves = zip(weights.items(), slopes, drift, strict=True)
    ahead = {name: w - lr * (slope + r) for (name, w), slope, r in moves}
    return torch.autograd.grad(meta_objective(run(ahead, meta_images)), theta)


@pytest.mark.parametrize("pair", [*LEARNING_PAIRS, "dynamic-loss"])
@pytest.mark.usefixtures("double")
def test_the_meta_gradient_is_that_of_double_backward_in_every_step(pair, tmp_path, monkeypatch):
    steps = []
    original = step.lookahead_gradient

    def compared(*arguments):
        found = original(*arguments)
        expected = by_double_backward(*arguments)
        for ours, theirs in zip(found, expected, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-10)
        steps.append(max(float(slope.abs().max()) for slope in found))
        return found

    monkeypatch.setattr(step, "lookahead_gradient", compared)
    run = task(pair, recipe=recipe(epochs=2))
    train(run, state(run, pair, dropout=0.0), StopRequest(), tmp_path)
    assert len(steps) >= 2
    assert max(steps) > 0


# --- gradients reach what they should


def moved(before, after):
    return {name for name, tensor in after.items() if not torch.equal(tensor, before[name])}


def copied(state_dict):
    return {name: tensor.clone() for name, tensor in state_dict.items()}


@pytest.mark.parametrize("pair", GOOD_PAIRS)
def test_training_moves_the_classifier_and_what_learns_and_no_frozen_function(pair, tmp_path):
    run = task(pair, recipe=recipe(epochs=2))
    begun = state(run, pair)
    model, theta = copied(dict(begun.model.named_parameters())), dict(begun.method.named_parameters())
    before = copied(theta)
    train(run, begun, StopRequest(), tmp_path)
    assert moved(model, dict(begun.model.named_parameters())) == set(model)
    learns = {name for name, p in theta.items() if p.requires_grad}
    assert moved(before, dict(begun.method.named_parameters())) == learns
    assert bool(learns) == (pair.endswith(("/mw-net", "/cmw-net")) or pair.startswith("dynamic-loss"))


@functools.cache
def ended(pair):
    """The state at the end of its run; not to be changed."""
    with tempfile.TemporaryDirectory() as folder:
        return finished(Path(folder), pair, {}, epochs=2)


@pytest.mark.parametrize("pair", GOOD_PAIRS)
def test_before_it_starts_a_weighting_changes_nothing(pair, tmp_path):
    late = finished(tmp_path, pair, {"weighting": {"start_epoch": 2}}, epochs=2)
    ours, theirs = late.model.state_dict(), ended(f"{pair.partition('/')[0]}/uniform").model.state_dict()
    assert [name for name, tensor in ours.items() if not torch.equal(tensor, theirs[name])] == []


# --- to disk and back


@pytest.mark.parametrize("pair", GOOD_PAIRS)
def test_what_is_saved_is_all_there_is(pair):
    """Loaded into a method of another seed it says the same of the same losses."""
    run = task(pair)
    first = copy.deepcopy(ended(pair))
    other = state(run, pair)
    with torch.no_grad():
        for tensor in other.method.parameters():
            tensor.add_(1.0)
    other.restore(*first.pack())
    assert_equal(other, first)
    for method in (other.method, first.method):
        method.begin_epoch(2)
        method.eval()
    logits = torch.randn(len(run.problem.labels), run.problem.num_classes)
    losses = torch.nn.functional.cross_entropy(logits, run.problem.labels, reduction="none")
    batch = step.Batch(torch.empty(0), run.problem.labels, torch.arange(len(losses)))
    said = [method.weights(losses, batch) for method in (other.method, first.method)]
    assert torch.equal(*said)
    assert torch.isfinite(said[0]).all()
