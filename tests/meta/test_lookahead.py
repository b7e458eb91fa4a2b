"""The look-ahead meta-gradient equals double backward and finite differences, and touches nothing."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call

from cmw_pipeline.meta.lookahead import lookahead_gradient
from cmw_pipeline.meta.tangent import Forward, LowMemoryForward
from cmw_pipeline.methods.base import Batch, Problem
from cmw_pipeline.methods.registry import build
from cmw_pipeline.models.resnet32 import BasicBlock
from tests.support.tiny import loss_of, options

CLASSES, LR = 4, 0.3


def network(dropout=0.0):
    """A plain module with convolution, batch normalisation, a residual block and (maybe) dropout."""
    torch.manual_seed(1)
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        BasicBlock(4, 6, 2),
        nn.Flatten(),
        nn.Dropout(dropout),
        nn.Linear(6 * 9, CLASSES),
    ).double()


def batch(seed, size=12):
    rng = torch.Generator().manual_seed(seed)
    images = torch.randn(size, 2, 6, 6, dtype=torch.float64, generator=rng)
    labels = torch.randint(0, CLASSES, (size,), generator=rng)
    return Batch(images, labels, torch.arange(size))


def method(kind, normalisation):
    problem = Problem(CLASSES, torch.repeat_interleave(torch.arange(CLASSES), torch.tensor([3, 9, 9, 40])))
    made = options(f"erm/{kind}", weighting={"normalisation": normalisation})
    return build(made, problem, seed=3).double()


def hard_label(weighting, data):
    return lambda z: loss_of(weighting, z, data)


def soft_label(weighting, data):
    """v CE(z, y) + (1 - v) CE(z, t): the form of CMW-Net-SL, with fixed soft labels t."""
    soft = torch.softmax(torch.randn(12, CLASSES, dtype=torch.float64, generator=torch.Generator()), 1)

    def objective(z):
        given = F.cross_entropy(z, data.labels, reduction="none")
        guessed = F.cross_entropy(z, soft, reduction="none")
        v = weighting.weights(given.detach(), data)
        return (v * given).mean() + ((1 - v) * guessed).mean()

    return objective


def meta_loss_ahead(model, theta_objective, data, meta, create_graph):
    """Oracle: look ahead through a second-order graph, as the published code does."""
    weights = dict(model.named_parameters())
    buffers = {k: b.clone() for k, b in model.named_buffers()}
    z = functional_call(model, (weights, buffers), (data.images,))
    gradient = torch.autograd.grad(theta_objective(z), list(weights.values()), create_graph=create_graph)
    ahead = {k: w - LR * g for (k, w), g in zip(weights.items(), gradient, strict=True)}
    buffers = {k: b.clone() for k, b in model.named_buffers()}
    return F.cross_entropy(functional_call(model, (ahead, buffers), (meta.images,)), meta.labels)


WAYS = {
    "record": (Forward, "replayed"),
    "second pass": (LowMemoryForward, "replayed"),
    "jvp": (Forward, "repeated"),
}


@pytest.fixture(params=WAYS, autouse=True)
def way(request, monkeypatch):
    """All ways to the tangent; the first two must not fall back on the last."""
    kind, name = WAYS[request.param]
    monkeypatch.setattr(kind, "tangent", getattr(kind, name))
    return kind


def ours(way, model, objective, data, meta, theta):
    forward = way(model, data.images)
    return lookahead_gradient(
        forward, objective, meta.images, lambda z: F.cross_entropy(z, meta.labels), LR, theta
    )


def close(found, expected, tolerance):
    scale = max(float(e.abs().max()) for e in expected)
    assert scale > 0
    for a, b in zip(found, expected, strict=True):
        assert float((a - b).abs().max()) <= tolerance * scale


@pytest.mark.parametrize("form", [hard_label, soft_label])
@pytest.mark.parametrize("normalisation", ["mean", "sum"])
@pytest.mark.parametrize("kind", ["mw-net", "cmw-net"])
def test_equals_double_backward_to_1e_9_with_batch_norm(way, kind, normalisation, form):
    model, weighting = network(), method(kind, normalisation)
    data, meta = batch(5), batch(6)
    objective, theta = form(weighting, data), weighting.theta(data)
    oracle = torch.autograd.grad(meta_loss_ahead(model, objective, data, meta, True), theta)
    close(ours(way, model, objective, data, meta, theta), oracle, 1e-9)


@pytest.mark.parametrize("normalisation", ["mean", "sum"])
def test_equals_finite_differences(way, normalisation):
    """Independent of autograd over the weighting: Theta is moved and the whole look-ahead repeated.

    The detached normaliser is held at its value, as the method defines it.
    """
    model, weighting = network(), method("cmw-net", normalisation)
    data, meta = batch(7), batch(8)
    theta = weighting.theta(data)
    with torch.no_grad():
        z = functional_call(
            model,
            (dict(model.named_parameters()), {k: b.clone() for k, b in model.named_buffers()}),
            (data.images,),
        )
        losses = F.cross_entropy(z, data.labels, reduction="none")
        mass = weighting.weights(losses, data).sum() if normalisation == "sum" else len(losses)

    def fixed(z):
        losses = F.cross_entropy(z, data.labels, reduction="none")
        return (weighting.weights(losses.detach(), data) * losses).sum() / mass

    found = ours(way, model, hard_label(weighting, data), data, meta, theta)
    eps = 1e-5
    for position, parameter in enumerate(theta):
        entry = int(found[position].abs().argmax())
        flat = parameter.data.view(-1)
        values = []
        for sign in (1, -1):
            flat[entry] += sign * eps
            values.append(float(meta_loss_ahead(model, fixed, data, meta, False)))
            flat[entry] -= sign * eps
        numeric = (values[0] - values[1]) / (2 * eps)
        analytic = float(found[position].view(-1)[entry])
        assert analytic == pytest.approx(numeric, rel=1e-6, abs=1e-12)


def test_dropout_draws_the_same_mask_in_every_pass(way):
    model, weighting = network(dropout=0.5), method("mw-net", "mean")
    data, meta = batch(9), batch(10)
    theta = weighting.theta(data)
    objective = hard_label(weighting, data)
    torch.manual_seed(0)
    found = ours(way, model, objective, data, meta, theta)
    torch.manual_seed(0)
    oracle = torch.autograd.grad(meta_loss_ahead(model, objective, data, meta, True), theta)
    close(found, oracle, 1e-9)


def test_leaves_weights_statistics_and_gradients_alone(way):
    model, weighting = network(), method("cmw-net", "mean")
    data, meta = batch(11), batch(12)
    reference = copy.deepcopy(model)
    reference(data.images)  # the one forward pass that may move the statistics
    ours(way, model, hard_label(weighting, data), data, meta, weighting.theta(data))
    for (name, a), b in zip(model.state_dict().items(), reference.state_dict().values(), strict=True):
        assert torch.equal(a, b), name
    assert all(p.grad is None for p in [*model.parameters(), *weighting.parameters()])


def test_detached_normaliser_keeps_the_gradient_of_a_common_factor(way):
    """With equal weights everywhere the head bias scales them all: it matters only where the sum is detached.

    (The published choice; a normaliser that is not detached would cancel the factor.)
    """
    model, weighting = network(), method("mw-net", "sum")
    nn.init.zeros_(weighting.weighting.net.heads.weight)
    data, meta = batch(13), batch(14)
    bias = weighting.weighting.net.heads.bias

    def attached(z):
        losses = F.cross_entropy(z, data.labels, reduction="none")
        v = weighting.weights(losses.detach(), data)
        return (v * losses).sum() / v.sum()

    (detached,) = ours(way, model, hard_label(weighting, data), data, meta, [bias])
    (cancelled,) = ours(way, model, attached, data, meta, [bias])
    assert float(detached.abs()) > 1e-6
    assert float(cancelled.abs()) < 1e-12


def test_frozen_parameters_are_not_moved_by_the_virtual_step(way):
    model, weighting = network(), method("mw-net", "mean")
    model[0].requires_grad_(False)
    data, meta = batch(15), batch(16)
    theta = weighting.theta(data)
    found = ours(way, model, hard_label(weighting, data), data, meta, theta)

    trainable = {k: p for k, p in model.named_parameters() if p.requires_grad}
    frozen = {k: p for k, p in model.named_parameters() if not p.requires_grad}
    buffers = {k: b.clone() for k, b in model.named_buffers()}
    z = functional_call(model, (trainable | frozen, buffers), (data.images,))
    loss = loss_of(weighting, z, data)
    gradient = torch.autograd.grad(loss, list(trainable.values()), create_graph=True)
    ahead = {k: w - LR * g for (k, w), g in zip(trainable.items(), gradient, strict=True)}
    buffers = {k: b.clone() for k, b in model.named_buffers()}
    z = functional_call(model, (ahead | frozen, buffers), (meta.images,))
    close(found, torch.autograd.grad(F.cross_entropy(z, meta.labels), theta), 1e-9)


def test_the_second_pass_leaves_the_same_graph_for_the_real_step():
    """Its logits and their gradients are those of the first, which may be freed; dropout draws the same."""
    model, data = network(dropout=0.5), batch(17)
    torch.manual_seed(4)
    lean = LowMemoryForward(copy.deepcopy(model), data.images)
    torch.manual_seed(4)
    full = Forward(model, data.images)
    direction = {name: torch.randn_like(p) for name, p in model.named_parameters()}
    close([lean.replayed(direction)], [full.repeated(direction)], 1e-12)
    slopes = [
        torch.autograd.grad(F.cross_entropy(f.logits, data.labels), list(f.model.parameters()))
        for f in (lean, full)
    ]
    close(*slopes, 1e-12)
