"""What each method's objective is, and that a training step does what it says and nothing beside."""

import copy

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import nn

from cmw_pipeline.config.schema import Optimizer
from cmw_pipeline.errors import NumericsError
from cmw_pipeline.meta.class_groups import group_classes
from cmw_pipeline.meta.weight_net import WeightNet as Net
from cmw_pipeline.meta.weighting import WeightingFunction
from cmw_pipeline.methods.base import Batch, Problem
from cmw_pipeline.methods.registry import build
from cmw_pipeline.training import optim
from cmw_pipeline.training.step import training_step
from tests.support.tiny import loss_of, options

CLASSES = 4


def method(kind, seed=3, **changes):
    """ERM, or ERM under a weighting; changes are those of the weighting, but for ``start_epoch``."""
    body = {"start_epoch": changes.pop("start_epoch")} if "start_epoch" in changes else {}
    pair = "erm" if kind == "erm" else f"erm/{kind}"
    return build(
        options(pair, **body, weighting=changes) if changes else options(pair, **body), PROBLEM, seed
    )


def exported():
    torch.manual_seed(8)
    net = Net(100, 3)
    net.loss_max.fill_(100.0)
    return WeightingFunction(net, [0, 1], {})


LABELS = torch.repeat_interleave(torch.arange(CLASSES), torch.tensor([3, 9, 11, 40]))
PROBLEM = Problem(CLASSES, LABELS, exported())


def plain_network():
    """A module of nobody's in particular: no base class, no registry."""
    torch.manual_seed(1)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(4 * 36, CLASSES)
    )


def batch(seed, size=12, side=8):
    rng = torch.Generator().manual_seed(seed)
    images = torch.randn(size, 3, side, side, generator=rng)
    labels = torch.randint(0, CLASSES, (size,), generator=rng)
    return Batch(images, labels, torch.arange(size))


def optimisers(model, weighting, lr=0.1):
    options = Optimizer(lr=lr, momentum=0.9, weight_decay=1e-2)
    return optim.Sgd(model.parameters(), options), getattr(weighting.weighting, "adam", None)


def gradient(weighting, model, data):
    model = copy.deepcopy(model)
    loss = loss_of(weighting, model(data.images), data)
    return torch.autograd.grad(loss, list(model.parameters()))


def logits(seed=0, size=12):
    return torch.randn(size, CLASSES, generator=torch.Generator().manual_seed(seed)) * 3


# --- objectives


@pytest.mark.parametrize(("normalisation", "factor"), [("mean", 0.5), ("sum", 1.0)])
@pytest.mark.parametrize("kind", ["mw-net", "cmw-net"])
def test_a_zero_head_weighs_all_alike_and_gives_erms_gradient_up_to_a_factor(kind, normalisation, factor):
    weighting = method(kind, normalisation=normalisation)
    nn.init.zeros_(weighting.weighting.net.heads.weight)
    nn.init.zeros_(weighting.weighting.net.heads.bias)  # sigmoid(0) = 1/2
    model, data = plain_network(), batch(1)
    for found, erm in zip(
        gradient(weighting, model, data), gradient(method("erm"), model, data), strict=True
    ):
        torch.testing.assert_close(found, factor * erm, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("normalisation", ["mean", "sum"])
@pytest.mark.parametrize("kind", ["mw-net", "cmw-net", "frozen"])
def test_the_objective_is_the_weighted_cross_entropy_written_out(kind, normalisation):
    weighting = method(kind, normalisation=normalisation)
    data, z = batch(2), logits()
    net = weighting.weighting.function.net if kind == "frozen" else weighting.weighting.net
    state = {name: t.detach() for name, t in net.state_dict().items()}
    groups = [0] * CLASSES if kind == "mw-net" else group_classes([3, 9, 11, 40], 3)
    total = mass = 0.0
    for row, label in zip(z, data.labels.tolist(), strict=True):
        loss = -torch.log_softmax(row, 0)[label]
        hidden = torch.relu(state["trunk.weight"][:, 0] * loss + state["trunk.bias"])
        group = groups[label]
        v = torch.sigmoid(state["heads.weight"][group] @ hidden + state["heads.bias"][group])
        total, mass = total + float(v * loss), mass + float(v)
    expected = total / (len(z) if normalisation == "mean" else mass)
    assert loss_of(weighting, z, data).item() == pytest.approx(expected, rel=1e-5)


def test_cmw_net_with_one_group_is_mw_net():
    ends = []
    for kind, changes in (("mw-net", {}), ("cmw-net", {"groups": 1})):
        weighting, model = method(kind, **changes), plain_network()
        optimizer, _ = optimisers(model, weighting)
        for step in range(4):
            training_step(model, weighting, optimizer, batch(step), batch(100 + step))
        ends.append(model.state_dict() | weighting.state_dict())
    assert ends[0].keys() == ends[1].keys()
    assert [name for name in ends[0] if not torch.equal(ends[0][name], ends[1][name])] == []


@pytest.mark.parametrize("kind", ["mw-net", "cmw-net", "frozen"])
def test_before_its_start_epoch_a_method_is_plain_mean_cross_entropy(kind):
    weighting = method(kind, start_epoch=3, normalisation="sum")
    data, z = batch(3), logits(3)
    plain = F.cross_entropy(z, data.labels)
    assert torch.equal(loss_of(weighting, z, data), plain)  # before the first begin_epoch, too
    for epoch in range(5):
        weighting.begin_epoch(epoch)
        assert torch.equal(loss_of(weighting, z, data), plain) == (epoch < 3)


def test_erm_is_mean_cross_entropy_and_learns_nothing_more():
    data, z = batch(4), logits(4)
    torch.testing.assert_close(loss_of(method("erm"), z, data), F.cross_entropy(z, data.labels))
    assert method("erm").state_dict() == {}


@pytest.mark.parametrize("normalisation", ["mean", "sum"])
def test_weights_that_all_vanish_give_a_finite_loss_and_a_zero_gradient(normalisation):
    weighting = method("cmw-net", normalisation=normalisation)
    nn.init.zeros_(weighting.weighting.net.heads.weight)
    nn.init.constant_(weighting.weighting.net.heads.bias, -1e4)
    data, model = batch(5), plain_network()
    assert weighting.weights(torch.rand(12), data).max().item() == 0.0
    assert loss_of(weighting, model(data.images), data).item() == 0.0
    assert all(float(g.abs().max()) == 0.0 for g in gradient(weighting, model, data))
    optimizer, _ = optimisers(model, weighting)
    assert float(training_step(model, weighting, optimizer, data, batch(6))) == 0.0
    assert all(bool(torch.isfinite(p).all()) for p in [*model.parameters(), *weighting.parameters()])


def test_equal_seeds_give_equal_weight_nets_and_leave_the_global_generator_alone():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first, second, other = (method("cmw-net", seed=seed).weighting.net.trunk.weight for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


# --- transfer


def test_transfer_has_nothing_to_learn_and_groups_the_classes_at_hand():
    weighting = method("frozen")
    assert [p for p in weighting.parameters() if p.requires_grad] == []
    assert weighting.weighting.function.groups.tolist() == [0, 1, 1, 2]
    expected = exported().weigh(torch.full((4,), 1.5), torch.tensor([0, 1, 1, 2]))
    data = Batch(torch.empty(0), torch.arange(4), torch.arange(4))
    assert torch.equal(weighting.weights(torch.full((4,), 1.5), data), expected)


def test_transfer_trains_the_classifier_and_not_the_function():
    weighting, model = method("frozen").train(), plain_network()
    frozen, start = copy.deepcopy(weighting.state_dict()), copy.deepcopy(model.state_dict())
    optimizer, meta = optimisers(model, weighting)
    assert meta is None
    for step in range(3):
        training_step(model, weighting, optimizer, batch(step), None)
    assert [k for k, t in weighting.state_dict().items() if not torch.equal(t, frozen[k])] == []
    assert all(not torch.equal(p, start[name]) for name, p in model.named_parameters())


# --- the step


@pytest.mark.parametrize("kind", ["mw-net", "cmw-net"])
def test_the_virtual_step_leaves_no_trace_in_the_real_one(kind):
    """The step equals: move Theta, then one SGD step at the old weights, written out by hand."""
    weighting, model, data = method(kind, normalisation="sum"), plain_network(), batch(7)
    before = copy.deepcopy(model)
    theta_before = copy.deepcopy(weighting.state_dict())
    optimizer, _ = optimisers(model, weighting)
    for number, momentum in enumerate(optimizer.momenta):
        momentum.copy_(torch.full_like(momentum, 0.01 * (number + 1)))
    momenta = [momentum.clone() for momentum in optimizer.momenta]
    loss = training_step(model, weighting, optimizer, data, batch(8))
    theta_after = weighting.state_dict()
    assert not torch.equal(theta_after["weighting.net.heads.bias"], theta_before["weighting.net.heads.bias"])

    expected_loss = loss_of(weighting, before(data.images), data)  # moves the statistics once
    gradients = torch.autograd.grad(expected_loss, list(before.parameters()))
    assert float(loss) == expected_loss.item()
    for old, g, m, new, kept in zip(
        before.parameters(), gradients, momenta, model.parameters(), optimizer.momenta, strict=True
    ):
        expected = 0.9 * m + g + 1e-2 * old
        torch.testing.assert_close(kept, expected)
        torch.testing.assert_close(new, old - 0.1 * expected)
    for (name, found), expected in zip(model.named_buffers(), before.buffers(), strict=True):
        assert torch.equal(found, expected), name


def test_without_a_meta_batch_theta_stays():
    weighting, model = method("cmw-net"), plain_network()
    optimizer, meta = optimisers(model, weighting)
    theta = [p.detach().clone() for p in weighting.parameters()]
    training_step(model, weighting, optimizer, batch(1), None)
    assert all(torch.equal(a, b) for a, b in zip(theta, weighting.parameters(), strict=True))
    assert all(float(moment.abs().max()) == 0.0 for moment in meta.state_dict().values())


@pytest.mark.parametrize("kind", ["erm", "mw-net", "cmw-net", "frozen"])
def test_every_method_trains_a_plain_module(kind):
    weighting, model, data = method(kind), plain_network(), batch(9)
    optimizer, meta = optimisers(model, weighting, lr=0.05)
    losses = [
        float(training_step(model, weighting, optimizer, data, batch(10) if meta else None))
        for _ in range(12)
    ]
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small"])
def test_a_torchvision_network_trains_as_it_comes(name):
    model = torchvision.models.get_model(name, num_classes=CLASSES)
    weighting = method("cmw-net")
    optimizer, _ = optimisers(model, weighting, lr=0.01)
    start = [p.detach().clone() for p in [*model.parameters(), *weighting.parameters()]]
    loss = training_step(model, weighting, optimizer, batch(1, 4, 32), batch(2, 4, 32))
    assert bool(torch.isfinite(loss))
    end = [*model.parameters(), *weighting.parameters()]
    assert all(bool(torch.isfinite(p).all()) for p in end)
    moved = sum(not torch.equal(a, b) for a, b in zip(start, end, strict=True))
    assert moved >= 0.9 * len(end)


# --- what is not finite


def everything(model, weighting, optimizer, meta):
    modules = [model, weighting, optimizer, meta] if meta else [model, weighting, optimizer]
    tensors = [p for module in modules[:2] for p in module.parameters()]
    tensors += [b for module in modules[2:] for b in module.buffers()]
    return [tensor.detach().clone() for tensor in tensors]


def assert_stops_before_the_step(weighting, model, data, meta_data, words):
    optimizer, meta = optimisers(model, weighting)
    before = everything(model, weighting, optimizer, meta)
    with pytest.raises(NumericsError, match=words) as raised:
        training_step(model, weighting, optimizer, data, meta_data if meta else None)
    assert raised.value.exit_code == 4
    after = everything(model, weighting, optimizer, meta)
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    return str(raised.value)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
@pytest.mark.parametrize("kind", ["erm", "mw-net", "cmw-net"])
def test_a_pixel_that_is_not_finite_stops_before_anything_moves(kind, bad):
    data = batch(1)
    data.images[5, 0, 0, 0] = bad
    rows = Batch(data.images, data.labels, torch.arange(70, 82))
    words = "the training loss" if kind == "erm" else "the meta-gradient"
    text = assert_stops_before_the_step(method(kind), plain_network(), rows, batch(2), words)
    assert "[70, 71, 72, 73, 74, 75, 76, 77]" in text  # where to look
    assert "learning rate" in text


def test_a_meta_image_that_is_not_finite_stops_before_anything_moves():
    meta = batch(2)
    meta.images[0] = torch.nan
    assert_stops_before_the_step(method("cmw-net"), plain_network(), batch(1), meta, "the meta-gradient")


def test_a_weighting_that_is_not_finite_stops_before_the_classifier_moves():
    weighting = method("mw-net")
    nn.init.constant_(weighting.weighting.net.trunk.weight, torch.nan)
    model = plain_network()
    optimizer, _ = optimisers(model, weighting)
    before = [p.detach().clone() for p in model.parameters()]
    with pytest.raises(NumericsError):
        training_step(model, weighting, optimizer, batch(1), None)
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


@pytest.mark.parametrize("kind", ["erm", "cmw-net"])
def test_a_run_that_diverges_ends_in_an_error_not_in_a_number(kind):
    weighting, model = method(kind), plain_network()
    optimizer, meta = optimisers(model, weighting, lr=1e30)
    with pytest.raises(NumericsError):
        for step in range(20):
            training_step(model, weighting, optimizer, batch(step), batch(50) if meta else None)
