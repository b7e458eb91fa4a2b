"""Dynamic Loss: its sets, its two networks, and a meta-gradient that is the one of the optimiser's step."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call

from cmw_pipeline.config.schema import Optimizer
from cmw_pipeline.meta.optimizers import Sgd
from cmw_pipeline.meta.selection import place_in_class
from cmw_pipeline.meta.tangent import Forward, LowMemoryForward
from cmw_pipeline.methods import dynamic_loss
from cmw_pipeline.methods.base import Batch, Networks, Problem
from cmw_pipeline.methods.registry import build
from cmw_pipeline.runtime.signals import StopRequest
from cmw_pipeline.training.loop import train
from cmw_pipeline.training.step import meta_step, training_step, virtual_step
from tests.support.tiny import CLASSES, loss_of, options, recipe, state, task

LABELS = torch.repeat_interleave(torch.arange(CLASSES), torch.tensor([40, 30, 20, 12]))
SIZE = len(LABELS)


def method(**changes):
    made = build(options("dynamic-loss", **({"start_epoch": 0} | changes)), Problem(CLASSES, LABELS), seed=1)
    made.begin_epoch(0)
    return made


def images(seed, size):
    rng = torch.Generator().manual_seed(seed)
    return torch.randn(size, 1, 4, 4, dtype=torch.float64, generator=rng)


def batch(seed=0, size=12, meta=8):
    """A batch of an active epoch's first turn, in double precision."""
    rows = torch.randperm(SIZE, generator=torch.Generator().manual_seed(seed))
    held = rows[size : size + meta]
    other = Batch(images(seed + 1, meta), LABELS[held], held)
    own = rows[:size]
    return Batch(images(seed + 2, size), LABELS[own], own, (images(seed + 3, size),), (other,))


def network():
    torch.manual_seed(1)
    layers = [
        nn.Conv2d(1, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(64, CLASSES),
    ]
    return nn.Sequential(*layers).double()


def no_scan(network):
    raise AssertionError


def judging(logits):
    return Networks(nn.Identity(), None, lambda network: logits)


def logits_for(losses):
    """(N, K) logits whose cross-entropies with the labels are these."""
    other = ((torch.as_tensor(losses).exp() - 1) / (CLASSES - 1)).log()
    return other[:, None] * (1 - F.one_hot(LABELS, CLASSES))


# --- ranks and sets


def test_places_in_a_class_count_what_is_smaller_there():
    rng = np.random.default_rng(0)
    labels, values = rng.integers(0, 5, 60), rng.integers(0, 9, 60)
    found = place_in_class(torch.from_numpy(labels), torch.from_numpy(values))
    earlier = np.arange(60)[None, :] < np.arange(60)[:, None]
    before = (values[None, :] < values[:, None]) | ((values[None, :] == values[:, None]) & earlier)
    assert found.tolist() == (before & (labels[None, :] == labels[:, None])).sum(axis=1).tolist()


def test_ranks_split_every_class_evenly_by_loss():
    made, losses = method(ranks=4), torch.rand(SIZE, generator=torch.Generator().manual_seed(3)) + 0.1
    made.between_epochs(0, judging(logits_for(losses)))
    for label in range(CLASSES):
        own = (label == LABELS).nonzero()[:, 0]
        order = own[losses[own].argsort()]
        expected = 4 * torch.arange(len(own)) // (len(own) + 1)
        assert made.ranks[order].tolist() == expected.tolist()


def test_the_meta_set_is_balanced_of_low_losses_and_another_one_each_epoch():
    made, losses = method(), torch.linspace(0.1, 5, SIZE)[torch.randperm(SIZE)]
    sets = []
    for epoch in range(3):
        made.between_epochs(epoch, judging(logits_for(losses)))
        counts = LABELS[made.is_meta].bincount(minlength=CLASSES)
        assert counts.tolist() == [int(0.5 * 0.5 * 12)] * CLASSES
        sets.append(made.is_meta.clone())
        for label in range(CLASSES):  # half of the smallest class is drawn: the upper losses stay out
            own = losses[label == LABELS]
            assert losses[made.is_meta & (label == LABELS)].max() <= own.sort()[0][len(own) - 4]
    assert not torch.equal(sets[0], sets[1])


def test_an_epoch_goes_through_everything_once_the_meta_set_last():
    made = method()
    made.between_epochs(0, judging(torch.randn(SIZE, CLASSES)))
    (rest, meta), (again,) = made.turns(0)
    assert sorted([*rest.rows, *meta.rows]) == list(range(SIZE))
    assert (meta.rows == again.rows).all()
    assert rest.views == ("strong", "plain") and meta.views == again.views == ("strong",)
    early = method(start_epoch=1)
    ((everything,),) = early.turns(0)
    assert len(everything.rows) == SIZE and everything.views == ("strong", "plain")
    ((everything,),) = method(start_epoch=1, warm_corrector=False).turns(0)
    assert everything.views == ("strong",)


def test_a_class_too_small_to_share_still_gives_one_sample():
    problem = Problem(3, torch.tensor([0, 0, 0, 0, 0, 1]))  # one sample of class 1, none of class 2
    made = build(options("dynamic-loss", start_epoch=0), problem, seed=1)
    made.between_epochs(0, judging(torch.randn(6, 3)))
    assert made.given[made.is_meta].tolist() == [0, 1]


# --- the two networks


def layered(network, inputs):
    """Linear, ReLU, linear, ReLU, linear: the published form, in plain products."""
    pairs = list(zip(*[iter(network.layers.parameters())] * 2, strict=True))
    assert len(pairs) == 3
    for number, (weight, bias) in enumerate(pairs):
        inputs = inputs @ weight.T + bias
        inputs = inputs.clamp(min=0) if number < 2 else inputs
    return inputs


def test_both_networks_compute_the_published_formulas():
    made = build(options("dynamic-loss", ranks=100), Problem(10, torch.arange(10)), seed=1).double()
    with torch.no_grad():
        for parameter in made.adam.trained:
            parameter.copy_(torch.randn(parameter.shape) / 4)
    corrector, generator = made.corrector, made.generator
    ranks, labels = torch.randint(100, (50,)), torch.randint(10, (50,))
    expected = 1 / (1 + (-layered(corrector, corrector.embedding[ranks])).exp())
    torch.testing.assert_close(corrector(ranks, labels), expected[torch.arange(50), labels])
    torch.testing.assert_close(generator(), layered(generator, generator.start))
    sizes = [sum(p.numel() for p in network.parameters()) for network in (corrector, generator)]
    assert sizes == [15_370, 9_034]  # as the published code counts them, for 100 ranks and 10 classes


def test_at_the_start_labels_of_every_rank_are_trusted_alike_and_margins_nearly_equal():
    margins = []
    for seed in range(10):
        made = build(options("dynamic-loss", ranks=100), Problem(10, torch.arange(10)), seed=seed)
        trust = made.corrector(torch.arange(100).repeat(10), torch.arange(10).repeat_interleave(100))
        assert trust.min() > 0.97 and trust.std() < 0.003  # sigmoid(3.98) = 0.9816
        margins.append(made.generator().detach())
    margins = torch.cat(margins)
    assert abs(float(margins.mean()) - 1) < 0.05 and 0.05 < float(margins.std()) < 0.25


def certain(made, trust):
    """Make the corrector say one number for all, and the margins equal."""
    with torch.no_grad():
        made.corrector.layers[4].weight.zero_()
        made.corrector.layers[4].bias.fill_(torch.tensor(trust).logit().clamp(-80, 80))
        made.generator.layers[4].weight.zero_()


@pytest.mark.parametrize("trust", [1.0, 0.0, 0.3])
def test_the_loss_is_cross_entropy_with_the_label_mixed_with_a_drawn_one(trust):
    made, data = method(), batch()
    certain(made, trust)
    sure = 50.0 * F.one_hot((data.labels + 1) % CLASSES, CLASSES).float()
    made.observe(sure, data)  # the draw is certain
    z = torch.randn(len(data.labels), CLASSES)
    target = trust * F.one_hot(data.labels, CLASSES) + (1 - trust) * sure / 50
    expected = F.cross_entropy(z, target)
    torch.testing.assert_close(loss_of(made, z, data), expected)
    torch.testing.assert_close(made.virtual_objective(z, data), expected)


def test_drawn_classes_follow_the_prediction():
    made, data = method(), batch(size=12)
    wanted = torch.tensor([0.1, 0.2, 0.3, 0.4])
    rows = torch.zeros(20_000, dtype=torch.int64)
    big = Batch(torch.empty(0), rows, rows, (torch.empty(0),), (data,))
    torch.manual_seed(0)
    made.observe(wanted.log().expand(len(rows), -1), big)
    torch.testing.assert_close(made.drawn.bincount() / len(rows), wanted, atol=0.015, rtol=0)


def test_margins_join_the_logits_of_training_and_of_the_meta_set_but_not_the_meta_loss():
    made, data, z = method(), batch(), torch.randn(8, CLASSES)
    meta = data.others[0]
    with torch.no_grad():
        made.generator.layers[4].bias.copy_(torch.tensor([3.0, 0.0, 0.0, -3.0]))
    torch.testing.assert_close(made.meta_objective(z, meta), F.cross_entropy(z, meta.labels))
    torch.testing.assert_close(
        loss_of(made, z, meta), F.cross_entropy(z + made.generator(), meta.labels)
    )  # the second turn: no meta batch beside it


def test_in_the_warm_up_the_corrector_learns_to_give_the_label_back():
    made, data = method(start_epoch=9, meta_net={"lr": 0.05}), batch()
    with torch.no_grad():
        made.corrector.layers[4].bias.fill_(-2.0)
    z = torch.randn(len(data.labels), CLASSES)
    torch.testing.assert_close(loss_of(made, z, data), F.cross_entropy(z, data.labels))
    ready = made.prepare(data, Networks(network(), None, no_scan))
    before, margins = made.trust(data).mean(), made.generator().clone()
    for _ in range(60):
        made.observe(z, ready)
    assert made.trust(data).mean() > before + 0.3
    assert torch.equal(made.generator(), margins)


def test_in_the_warm_up_the_corrector_hears_what_the_classifier_says_of_the_images_as_they_are(monkeypatch):
    made, data, model = method(start_epoch=9), batch(), network()
    ready = made.prepare(data, Networks(model, None, no_scan))
    said = network().train()(data.views[0]).softmax(1)[torch.arange(len(data.labels)), data.labels]
    trust = made.trust(data)
    expected = torch.autograd.grad(
        -(trust + (1 - trust) * said).log().mean(), list(made.corrector.parameters())
    )
    taken = []
    monkeypatch.setattr(made.adam, "update", taken.extend)
    made.observe(torch.full((len(data.labels), CLASSES), torch.nan), ready)  # of the strong view: without use
    for found, wanted in zip(taken, expected, strict=False):
        torch.testing.assert_close(found, wanted)
    assert len(taken) == len(expected) + 7 and not any(bool(slope.any()) for slope in taken[len(expected) :])


def test_the_corrector_may_wait_for_the_meta_steps():
    made, data = method(start_epoch=9, warm_corrector=False), batch()
    before = made.trust(data)
    made.observe(torch.randn(len(data.labels), CLASSES), data)
    assert torch.equal(made.trust(data), before)


# --- the meta-gradient


STEPS = [
    {"momentum": 0.9, "weight_decay": 0.05},
    {"momentum": 0.9, "nesterov": True, "weight_decay": 0.05},
    {"momentum": 0.0, "weight_decay": 0.0},
]


def prepared(step):
    model, made, data = network(), method(ranks=3).double(), batch()
    made.ranks.copy_(torch.arange(SIZE) % 3)
    optimizer = Sgd(model.parameters(), Optimizer(lr=0.2, **step))
    for momentum in optimizer.momenta:
        momentum.copy_(torch.randn(momentum.shape, generator=torch.Generator().manual_seed(4)) * 0.1)
    return model, made, data, optimizer


def meta_loss_after_a_real_step(model, made, data, step, momenta):
    """PyTorch's own SGD on a copy, momentum and all."""
    weights = {name: p.detach().clone().requires_grad_() for name, p in model.named_parameters()}
    buffers = {name: b.clone() for name, b in model.named_buffers()}
    theirs = torch.optim.SGD(list(weights.values()), lr=0.2, **step)
    for weight, momentum in zip(weights.values(), momenta, strict=True):
        theirs.state[weight]["momentum_buffer"] = momentum.clone()
    made.virtual_objective(functional_call(model, (weights, buffers), (data.views[0],)), data).backward()
    theirs.step()
    meta = data.others[0]
    with torch.no_grad():
        return float(F.cross_entropy(functional_call(model, (weights, buffers), (meta.images,)), meta.labels))


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("way", [Forward, LowMemoryForward])
def test_the_meta_gradient_is_the_finite_difference_of_an_optimisers_step(way, step, monkeypatch):
    model, made, data, optimizer = prepared(step)
    taken = []
    monkeypatch.setattr(made, "learn", lambda gradient: taken.extend(gradient))
    model.train()
    forward = way(model, data.views[0])
    made.observe(forward.logits.detach(), data)
    meta_step(forward, made, data, data.others[0], *virtual_step(made, optimizer))
    momenta, rng = [m.clone() for m in optimizer.momenta], np.random.default_rng(0)
    tiny = 1e-5
    for parameter, slope in zip(made.adam.trained, taken, strict=True):
        largest = int(slope.abs().argmax())
        for place in {largest, int(rng.integers(slope.numel()))}:
            losses = []
            for sign in (1, -1):
                parameter.data.view(-1)[place] += sign * tiny
                losses.append(meta_loss_after_a_real_step(model, made, data, step, momenta))
                parameter.data.view(-1)[place] -= sign * tiny
            expected = (losses[0] - losses[1]) / (2 * tiny)
            assert slope.view(-1)[place].item() == pytest.approx(expected, rel=1e-5, abs=1e-9)
    assert max(float(slope.abs().max()) for slope in taken) > 1e-5


def test_the_look_ahead_leaves_weights_momenta_and_statistics_to_the_real_step(monkeypatch):
    """A step whose meta-gradient nobody takes is a plain step on the augmented images."""
    monkeypatch.setattr(dynamic_loss, "_draw", lambda logits: torch.zeros(len(logits), dtype=torch.int64))
    model, made, data, optimizer = prepared(STEPS[0])
    monkeypatch.setattr(made, "learn", lambda gradient: None)
    training_step(model, made, optimizer, data, None)
    twin, other, same, theirs = prepared(STEPS[0])
    other.seen = torch.zeros(len(same.labels), CLASSES, dtype=torch.float64)
    loss = loss_of(other, twin.train()(same.images), same)
    theirs.update(torch.autograd.grad(loss, theirs.trained))
    for mine, plain in ((model, twin), (optimizer, theirs)):
        assert mine.state_dict().keys() == plain.state_dict().keys()
        for name, value in mine.state_dict().items():
            torch.testing.assert_close(value, plain.state_dict()[name])


def test_a_trusting_corrector_trains_on_the_labels_alone(tmp_path):
    """With v = 1 and equal margins that do not learn, the classes drawn make no difference."""
    ends = []
    for seed in (1, 2):
        changes = {"start_epoch": 0, "meta_net": {"lr": 1e-12}, "strong_view": "weak"}
        run = task("dynamic-loss", recipe=recipe(ema=None, augment={}), **changes)
        end = state(run, "dynamic-loss", dropout=0.0, **changes)
        certain(end.method, 1.0)
        end.method.is_meta[:] = False
        picked = torch.zeros(len(run.problem.labels), dtype=torch.bool)
        picked[::7] = True
        end.method._picked = lambda losses, smallest, picked=picked: picked
        torch.manual_seed(seed)
        train(run, end, StopRequest(), tmp_path / str(seed))
        ends.append(torch.cat([p.detach().flatten() for p in end.model.parameters()]))
    torch.testing.assert_close(*ends)
