"""L2B: L2RW of twice as many losses, against a double backward written out, and in its limits."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call

from cmw_pipeline.config.schema import Optimizer
from cmw_pipeline.methods.base import Batch, Problem
from cmw_pipeline.methods.registry import build
from cmw_pipeline.training.optim import Sgd
from cmw_pipeline.training.step import training_step
from tests.support.tiny import loss_of, options

K, SIZE = 4, 12
LABELS = torch.arange(SIZE) % K


def method(pair="l2b", **changes):
    return build(options(pair, **changes), Problem(K, LABELS), seed=0)


def batch(seed, labels=LABELS):
    images = torch.randn(SIZE, 1, 4, 4, generator=torch.Generator().manual_seed(seed))
    return Batch(images, labels, torch.arange(SIZE))


def network(seed=1):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.Tanh(), nn.Linear(8, K))


def found(pair, model, data, meta, **changes):
    """The weights that the meta step of a training step found."""
    seen, ours = [], method(pair, **changes)
    learn = ours.weighting.learn
    ours.weighting.learn = lambda gradient: (learn(gradient), seen.append(ours.weighting.useful))
    model = copy.deepcopy(model)
    training_step(model, ours, Sgd(model.parameters(), Optimizer(lr=0.1)), data, meta)
    return seen[0]


def by_double_backward(model, data, meta, guesses):
    """max(0, −dL_meta/dε) at ε = 0, of (2, B) losses, divided by its sum."""
    weights = dict(model.named_parameters())
    logits = functional_call(model, weights, (data.images,))
    costs = torch.stack([F.cross_entropy(logits, y, reduction="none") for y in (data.labels, guesses)])
    eps = torch.zeros_like(costs, requires_grad=True)
    slopes = torch.autograd.grad((eps * costs).sum(), list(weights.values()), create_graph=True)
    ahead = {name: w - s for (name, w), s in zip(weights.items(), slopes, strict=True)}
    loss = F.cross_entropy(functional_call(model, ahead, (meta.images,)), meta.labels)
    useful = (-torch.autograd.grad(loss, eps)[0]).clamp(min=0)
    return useful / useful.sum()


def test_the_weights_under_l2rw_are_those_of_the_rule():
    model, data, meta = network(), batch(2), batch(3)
    guesses = model(data.images).argmax(dim=1)
    assert 0 < int((guesses == LABELS).sum()) < SIZE
    expected = by_double_backward(model, data, meta, guesses)
    weights = found("l2b/l2rw", model, data, meta)
    torch.testing.assert_close(weights.view(2, SIZE), expected, rtol=1e-4, atol=1e-6)
    assert float(weights.sum()) == pytest.approx(1)


def test_its_loss_is_the_weighted_sum_of_both_rows():
    ours, z = method("l2b/l2rw"), torch.randn(SIZE, K)
    ours.weighting.useful = weights = torch.rand(2 * SIZE)
    rows = [F.cross_entropy(z, y, reduction="none") for y in (LABELS, z.argmax(dim=1))]
    torch.testing.assert_close(loss_of(ours, z, batch(0)), (weights * torch.cat(rows)).sum())


def test_without_the_second_row_it_is_l2rw():
    """In the rule: the given labels' weights are L2RW's, but for the sum that they are divided by."""
    model, data, meta = network(), batch(2), batch(3)
    both, alone = (found(pair, model, data, meta)[:SIZE] for pair in ("l2b/l2rw", "erm/l2rw"))
    torch.testing.assert_close(both / both.sum(), alone, rtol=1e-4, atol=1e-6)


def test_where_every_guess_is_the_label_both_rows_are_equal_and_weigh_half_each():
    model, meta = network(), batch(3)
    data = batch(2, labels=model(batch(2).images).argmax(dim=1))
    weights = found("l2b/l2rw", model, data, meta)
    torch.testing.assert_close(weights[:SIZE], weights[SIZE:])
    torch.testing.assert_close(2 * weights[:SIZE], found("erm/l2rw", model, data, meta), rtol=1e-4, atol=1e-6)


def test_alike_it_is_hard_bootstrapping_at_a_half():
    z = torch.randn(SIZE, K)
    target = (F.one_hot(LABELS, K) + F.one_hot(z.argmax(dim=1), K)) / 2
    torch.testing.assert_close(loss_of(method(), z, batch(0)), F.cross_entropy(z, target))


def test_a_weight_is_that_of_the_class_it_is_a_loss_of():
    ours, z = method("l2b/class-balanced", weighting={"beta": 0.0}), torch.randn(SIZE, K)
    ours.weighting.class_weights.copy_(torch.tensor([1.0, 2.0, 3.0, 4.0]))
    labels = torch.cat([LABELS, z.argmax(dim=1)])
    expected = ((labels + 1) * F.cross_entropy(z.repeat(2, 1), labels, reduction="none")).mean()
    torch.testing.assert_close(loss_of(ours, z, batch(0)), expected)


def test_before_it_starts_it_is_plain_cross_entropy():
    z = torch.randn(SIZE, K)
    torch.testing.assert_close(loss_of(method(start_epoch=1), z, batch(0)), F.cross_entropy(z, LABELS))
