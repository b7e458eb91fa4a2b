"""Optimisers equal PyTorch's own; the rate follows its schedule."""

import copy
import math

import pytest
import torch

from cmw_pipeline.config.schema import Optimizer
from cmw_pipeline.meta.optimizers import Adam, Sgd
from cmw_pipeline.training.optim import learning_rate, optimizer
from tests.support.tiny import network, recipe


def trained(model, step, steps=5):
    torch.manual_seed(3)
    for _ in range(steps):
        images, labels = torch.randn(6, 1, 8, 8), torch.randint(0, 4, (6,))
        loss = torch.nn.functional.cross_entropy(model(images), labels)
        step(torch.autograd.grad(loss, list(model.parameters())))
    return model


def with_torch(optimizer):
    def step(gradients):
        for group in optimizer.param_groups:
            for parameter, gradient in zip(group["params"], gradients, strict=True):
                parameter.grad = gradient
        optimizer.step()

    return step


def assert_same(a, b, tolerance=0.0):
    for x, y in zip(a.parameters(), b.parameters(), strict=True):
        torch.testing.assert_close(x, y, rtol=0, atol=tolerance)


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_sgd_is_torchs(momentum, nesterov):
    if nesterov and not momentum:
        pytest.skip("Nesterov needs momentum")
    body = {"lr": 0.1, "momentum": momentum, "nesterov": nesterov, "weight_decay": 1e-2}
    ours, theirs = network(), network()
    trained(ours, Sgd(ours.parameters(), Optimizer(**body)).update)
    trained(theirs, with_torch(torch.optim.SGD(theirs.parameters(), **body)))
    assert_same(ours, theirs, 1e-6)  # the rate is a tensor here, and rounds elsewhere


@pytest.mark.parametrize("amsgrad", [False, True])
def test_adam_is_torchs(amsgrad):
    body = {"lr": 1e-3, "weight_decay": 1e-2, "amsgrad": amsgrad}
    ours, theirs = network(), network()
    trained(ours, Adam(ours.parameters(), **body).update)
    trained(theirs, with_torch(torch.optim.Adam(theirs.parameters(), **body)))
    assert_same(ours, theirs)


def test_a_recipes_adam_is_torchs():
    options = Optimizer(name="adam", lr=1e-3, momentum=0.8, weight_decay=1e-2)
    ours, theirs = network(), network()
    trained(ours, optimizer(ours.parameters(), options).update)
    body = {"lr": 1e-3, "betas": (0.8, 0.999), "weight_decay": 1e-2}
    trained(theirs, with_torch(torch.optim.Adam(theirs.parameters(), **body)))
    assert_same(ours, theirs)


@pytest.mark.parametrize("name", ["sgd", "adam"])
def test_what_is_frozen_or_has_no_gradient_stays(name):
    model = network()
    frozen, _, *others = model.parameters()
    frozen.requires_grad_(False)
    before = [parameter.clone() for parameter in model.parameters()]
    stepper = optimizer(model.parameters(), Optimizer(name=name, lr=1e-2))
    gradients = [torch.ones_like(parameter) for parameter in others]
    stepper.update([None, *gradients])
    stepper.update([None, *gradients])
    moved = [not a.equal(b) for a, b in zip(before, model.parameters(), strict=True)]
    assert moved == [False, False, *[True] * len(others)]


def test_state_dict_carries_on_exactly():
    model = network()
    first = Adam(model.parameters(), lr=1e-3)
    trained(model, first.update)
    other = copy.deepcopy(model)
    second = Adam(other.parameters(), lr=1e-3)
    second.load_state_dict(first.state_dict())
    assert_same(trained(model, first.update), trained(other, second.update))


def rates(schedule, epochs, lr=0.1):
    body = recipe(schedule=schedule, epochs=epochs, optimizer={"lr": lr})
    return [learning_rate(body, epoch) for epoch in range(epochs)]


def test_steps_multiply_at_each_milestone():
    found = rates({"name": "steps", "milestones": [160, 180], "factor": 0.01}, 200)
    assert found[0] == found[159] == 0.1
    assert found[160] == found[179] == pytest.approx(1e-3)
    assert found[180] == found[199] == pytest.approx(1e-5)


def test_cosine_is_torchs():
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=0.1)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 40, eta_min=0.001)
    expected = []
    for _ in range(40):
        expected.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    assert rates({"name": "cosine", "floor": 0.001}, 40) == pytest.approx(expected)


def test_fixmatchs_cosine_counts_steps_of_sixteenths():
    """lr cos(7 π k / 16 K), k of K steps (Sohn et al., NeurIPS 2020)."""
    expected = [0.1 * math.cos(7 * math.pi * k / (16 * 50)) for k in range(50)]
    assert rates({"name": "slow-cosine"}, 50) == pytest.approx(expected)


def test_warm_restarts_of_the_feature_dependent_tables():
    """45 epochs at 0.1, then cycles of 5, 10, 20 and 40 epochs, as torch's scheduler makes them."""
    found = rates({"name": "restarts", "start": 45, "period": 5, "mult": 2, "floor": 1e-4}, 120)
    assert found[:46] == [0.1] * 46
    assert [epoch for epoch in range(46, 120) if found[epoch] == 0.1] == [50, 60, 80]
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    schedule = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(optimizer, 5, 2, 1e-4)
    expected = []
    for _ in range(75):
        expected.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    assert found[45:] == pytest.approx(expected)
    assert found[119] == pytest.approx(2.5e-4, rel=0.03)


def test_warm_up_is_linear_and_reaches_the_rate():
    found = rates({"name": "constant", "warmup_epochs": 5}, 8)
    assert found == pytest.approx([0.02, 0.04, 0.06, 0.08, 0.1, 0.1, 0.1, 0.1])
