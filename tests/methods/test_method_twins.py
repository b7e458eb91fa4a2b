"""Co-teaching, Decoupling, Peer-learning and ELR+: what one network takes from the other."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from cmw_pipeline.methods.base import Batch, Networks, Problem
from cmw_pipeline.methods.mixup import draw_lambda, draw_partners
from cmw_pipeline.methods.parts.towers import tower_losses
from cmw_pipeline.methods.parts.twin_selection import smallest
from cmw_pipeline.methods.registry import build
from cmw_pipeline.models.twins import Twins
from cmw_pipeline.runtime.signals import StopRequest
from cmw_pipeline.training.ema import Teacher
from cmw_pipeline.training.loop import train
from tests.support.tiny import CLASSES, TRAIN, loss_of, network, options, recipe, state, task

LABELS = torch.repeat_interleave(torch.arange(CLASSES), 6)
SIZE = len(LABELS)
KINDS = ["co-teaching", "decoupling", "peer-learning", "elr-plus"]


def method(kind, epoch=0, **changes):
    made = build(options(kind, **changes), Problem(CLASSES, LABELS), seed=1)
    made.begin_epoch(epoch)
    return made


def batch(images=None):
    return Batch(torch.empty(0) if images is None else images, LABELS, torch.arange(SIZE))


def logits(seed):
    return torch.randn(SIZE, 2, CLASSES, generator=torch.Generator().manual_seed(seed)) * 2


def both_alone(z, labels=LABELS):
    """Sum of the two networks' mean cross-entropies, each computed as if it stood alone."""
    return F.cross_entropy(z[:, 0], labels) + F.cross_entropy(z[:, 1], labels)


@pytest.mark.parametrize("kind", KINDS)
def test_before_the_start_epoch_each_network_learns_by_plain_cross_entropy(kind):
    made, z = method(kind, start_epoch=1), logits(0)
    assert made.facts.towers == 2
    data = batch()
    assert made.prepare(data, Networks(nn.Identity(), None, lambda network: z)) is data
    torch.testing.assert_close(loss_of(made, z, batch()), both_alone(z))


def test_tower_losses_take_hard_and_soft_labels_of_all_or_of_each():
    z = logits(1)
    expected = torch.stack([F.cross_entropy(z[:, k], LABELS, reduction="none") for k in range(2)], dim=1)
    hard = F.one_hot(LABELS, CLASSES).float()
    for labels in (LABELS, hard, torch.stack([hard, hard], dim=1)):
        torch.testing.assert_close(tower_losses(z, labels), expected)


# --- selection


def test_co_teaching_that_forgets_nothing_is_cross_entropy():
    for seed in range(3):
        z = logits(seed)
        loss = loss_of(method("co-teaching", forget_rate=0.0), z, batch())
        torch.testing.assert_close(loss, both_alone(z))


def test_co_teaching_takes_the_others_small_losses():
    z, made = logits(2), method("co-teaching", epoch=50, forget_rate=0.4)
    losses = np.stack([F.cross_entropy(z[:, k], LABELS, reduction="none").numpy() for k in range(2)])
    kept = [np.argsort(row)[: int(0.6 * SIZE)] for row in losses]
    assert set(kept[0]) != set(kept[1])
    expected = losses[0][kept[1]].mean() + losses[1][kept[0]].mean()
    assert loss_of(made, z, batch()).item() == pytest.approx(expected, rel=1e-6)


def test_decoupling_learns_from_disagreements_only():
    z = logits(3)
    differ = z[:, 0].argmax(1) != z[:, 1].argmax(1)
    assert 0 < int(differ.sum()) < SIZE
    loss = loss_of(method("decoupling"), z, batch())
    torch.testing.assert_close(loss, both_alone(z[differ], LABELS[differ]))


@pytest.mark.parametrize("kind", ["decoupling", "peer-learning"])
def test_nothing_chosen_gives_no_gradient_and_no_nan(kind):
    same = torch.randn(SIZE, 1, CLASSES).expand(-1, 2, -1).clone().requires_grad_()
    changes = {"forget_rate": 1.0, "ramp_epochs": 0} if kind == "peer-learning" else {}
    loss = loss_of(method(kind, **changes), same, batch())
    assert loss.item() == 0
    assert float(torch.autograd.grad(loss, same)[0].abs().max()) == 0


def test_peer_learning_adds_the_others_small_losses_among_the_agreements():
    z, made = logits(4), method("peer-learning", epoch=50, forget_rate=0.35)
    losses = [F.cross_entropy(z[:, k], LABELS, reduction="none").tolist() for k in range(2)]
    guess = z.argmax(2).tolist()
    differ = [i for i in range(SIZE) if guess[i][0] != guess[i][1]]
    agree = [i for i in range(SIZE) if guess[i][0] == guess[i][1]]
    assert len(agree) >= 3
    expected = 0.0
    for mine, other in ((0, 1), (1, 0)):
        small = sorted(agree, key=lambda i: losses[other][i])[: int((1 - 0.35) * len(agree))]
        chosen = differ + small
        expected += sum(losses[mine][i] for i in chosen) / len(chosen)
    assert loss_of(made, z, batch()).item() == pytest.approx(expected, rel=1e-6)


def test_peer_learning_on_agreeing_networks_is_co_teaching_and_with_nothing_kept_decoupling():
    z = logits(5)
    agreeing = z.clone()
    agreeing[torch.arange(SIZE), :, LABELS] += 50 * torch.rand(SIZE, 1)
    agreeing[:, 1] *= 0.5 + torch.rand(SIZE, 1)
    assert bool((agreeing[:, 0].argmax(1) == agreeing[:, 1].argmax(1)).any())
    agreeing = agreeing[agreeing[:, 0].argmax(1) == agreeing[:, 1].argmax(1)]
    some = Batch(torch.empty(0), LABELS[: len(agreeing)], torch.arange(len(agreeing)))
    peer, co = (method(kind, epoch=9, forget_rate=0.3) for kind in ("peer-learning", "co-teaching"))
    assert torch.equal(loss_of(peer, agreeing, some), loss_of(co, agreeing, some))
    nothing = method("peer-learning", epoch=20, forget_rate=1.0)
    assert torch.equal(loss_of(nothing, z, batch()), loss_of(method("decoupling"), z, batch()))


@pytest.mark.parametrize("share", [0.0, 0.1, 0.35, 0.65, 0.7, 0.9, 1.0])
def test_as_many_are_kept_as_the_published_code_keeps(share):
    losses = torch.rand(100, 2)
    for count in (0, 1, 20, 60, 100):
        candidates = (torch.arange(100) < count)[:, None]
        kept = smallest(losses, candidates, 1 - torch.tensor(share, dtype=torch.float64))
        assert kept.sum(dim=0).tolist() == [round((1 - share) * count + 1e-6 - 0.5)] * 2
        assert not bool((kept & ~candidates).any())


def test_the_share_forgotten_grows_from_the_start_epoch_on():
    made = method("co-teaching", start_epoch=2, forget_rate=0.4, ramp_epochs=4, exponent=2.0)
    found = []
    for epoch in range(9):
        made.begin_epoch(epoch)
        found.append(made.forget_rate.item())
    assert found == pytest.approx([0.4 * t**2 for t in (0, 0, 0, 0.25, 0.5, 0.75, 1, 1, 1)])


def test_co_teaching_finds_planted_wrong_labels():
    """Both networks give a wrong label a high loss in most cases: hardly a wrong label is learnt from."""
    rng = torch.Generator().manual_seed(0)
    truth = torch.randint(0, CLASSES, (500,), generator=rng)
    wrong = torch.rand(500, generator=rng) < 0.4
    labels = torch.where(wrong, (truth + 1) % CLASSES, truth)
    z = 4 * F.one_hot(truth, CLASSES)[:, None] + torch.randn(500, 2, CLASSES, generator=rng)
    made = method("co-teaching", epoch=20, forget_rate=0.4)
    mask = made.chosen(tower_losses(z, labels), z.argmax(2))
    assert wrong[mask[:, 0]].float().mean() < 0.05


# --- ELR+


def elr_plus(**changes):
    made = method("elr-plus", **changes)
    twins = Twins([network(0.0, seed) for seed in (3, 4)])
    teacher = Teacher(Twins([network(0.0, seed) for seed in (5, 6)]))
    images = torch.randn(SIZE, 1, 8, 8, generator=torch.Generator().manual_seed(9))
    return made, twins, Networks(twins, teacher, lambda network: images), batch(images)


def softmax_of(tower, images):
    with torch.no_grad():
        return tower.train()(images).softmax(1)


def test_each_networks_target_comes_from_the_others_average():
    made, _, networks, data = elr_plus(memory=0.7, mixup=0.0)
    made.prepare(data, networks)
    made.prepare(data, networks)
    for mine, other in ((0, 1), (1, 0)):
        said = softmax_of(networks.teacher.module.towers[other], data.images)
        torch.testing.assert_close(made.targets[:, mine], (1 - 0.7**2) * said)


def test_elr_plus_without_strength_and_mixup_is_cross_entropy():
    made, twins, networks, data = elr_plus(strength=0.0, mixup=0.0)
    ready = made.prepare(data, networks)
    z = twins.train()(ready.images)
    torch.testing.assert_close(loss_of(made, z, ready), both_alone(z))


@pytest.mark.parametrize("refine", [False, True])
def test_elr_pluss_loss_written_out(refine):
    made, _, networks, data = elr_plus(memory=0.8, strength=2.0, mixup=1.0, strength_ramp=4, refine=refine)
    torch.manual_seed(11)
    ready = made.prepare(data, networks)
    torch.manual_seed(11)
    lam = draw_lambda(1.0, torch.device("cpu"))
    partners = draw_partners(SIZE, torch.device("cpu"))
    assert 0.5 <= float(lam) < 1
    torch.testing.assert_close(ready.images, lam * data.images + (1 - lam) * data.images[partners])
    hot, z = F.one_hot(LABELS, CLASSES).float(), logits(6)
    expected = 0.0
    for mine, other in ((0, 1), (1, 0)):
        q = 0.2 * softmax_of(networks.teacher.module.towers[other], data.images)
        q = lam * q + (1 - lam) * q[partners]
        y = lam * hot + (1 - lam) * hot[partners]
        if refine:
            y = y * q / (y * q).sum(1, keepdim=True)
        p = z[:, mine].softmax(1).clamp(1e-4, 1 - 1e-4)
        cross = -(y * z[:, mine].log_softmax(1)).sum(1)
        ramp = math.exp(-5 * (1 - 1 / 4) ** 2)
        expected += (cross + ramp * 2.0 * (1 - (q * p).sum(1)).log()).mean()
    torch.testing.assert_close(loss_of(made, z, ready), expected)


def test_the_averages_decay_is_ramped_up():
    made = method("elr-plus", teacher_ramp=40_000)
    assert made.teacher_decay(0.997, 0) == pytest.approx(0.997 * math.exp(-5))
    assert made.teacher_decay(0.997, 20_000) == pytest.approx(0.997 * math.exp(-1.25))
    assert made.teacher_decay(0.997, 40_000) == made.teacher_decay(0.997, 90_000) == 0.997


def test_without_a_ramp_elr_plus_begins_with_the_mean_of_all_networks_so_far():
    made = method("elr-plus", teacher_ramp=None)
    networks, average = [2.0, 5.0, -1.0, 4.0], 3.0
    for step, weight in enumerate(networks):
        decay = made.teacher_decay(0.997, step)
        average = decay * average + (1 - decay) * weight
    assert average == pytest.approx((3.0 + sum(networks)) / 5)
    assert made.teacher_decay(0.997, 330) < made.teacher_decay(0.997, 1000) == 0.997


# --- training


@pytest.mark.parametrize("kind", KINDS)
def test_both_networks_learn_and_stay_two(tmp_path, kind):
    body = recipe(epochs=12, augment={"pad": 0})
    run = task(kind, recipe=body)
    end = state(run, kind)
    start = [p.detach().clone() for p in end.model.parameters()]
    train(run, end, StopRequest(), tmp_path)
    assert all(not torch.equal(a, b) for a, b in zip(start, end.model.parameters(), strict=True))
    images = run.store.plain(torch.arange(TRAIN))
    guesses = [tower.eval()(images).argmax(1) for tower in end.model.towers]
    assert all((guess == run.problem.labels).float().mean() > 0.7 for guess in guesses)
    assert not torch.equal(end.model.towers[0].features[0].weight, end.model.towers[1].features[0].weight)
