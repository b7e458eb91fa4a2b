"""SOP: its gradients against autograd, its limits, and what becomes of a label always contradicted."""

import pytest
import torch
import torch.nn.functional as F

from cmw_pipeline.methods.base import Batch, Problem
from cmw_pipeline.methods.registry import build
from cmw_pipeline.methods.sop import slopes
from tests.support.tiny import options

K, SIZE = 4, 8
LABELS = torch.arange(SIZE) % K
ROWS = torch.arange(SIZE)
BATCH = Batch(torch.zeros(SIZE, 1), LABELS, ROWS)


def method(**changes):
    return build(options("sop", **changes), Problem(K, LABELS), seed=0)


def logits(seed=0, dtype=torch.float32):
    return 2 * torch.randn(SIZE, K, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def loss_of(made, z, batch):
    """The loss of a step, in which the method sees the logits before."""
    made.observe(z.detach(), batch)
    return made.objective(z, batch, made.weigh)


def by_autograd(z, u, v):
    """Both losses written out as published, u seen by both, v by the second alone."""
    hit = F.one_hot(LABELS, K).double()
    up = (u[:, None] ** 2 * hit).clamp(0, 1)
    down = (v**2 * (1 - hit)).clamp(0, 1)
    q = F.normalize((z.softmax(1) + up - down.detach()).clamp(min=1e-4), p=1, dim=1).clamp(min=1e-4)
    loss = -(hit * q.log()).sum(1).mean()
    guess = F.one_hot(z.argmax(1), K).double()
    match = (guess + up - down - hit).square().sum() / SIZE
    return torch.autograd.grad(loss + match, (u, v))


@pytest.mark.parametrize("size", [1e-3, 0.5, 1.5])
def test_the_closed_form_is_the_gradient(size):
    draw = torch.Generator().manual_seed(1)
    u = (size * torch.randn(SIZE, generator=draw, dtype=torch.float64)).requires_grad_()
    v = (size * torch.randn(SIZE, K, generator=draw, dtype=torch.float64)).requires_grad_()
    z = logits(dtype=torch.float64)
    z[0, LABELS[0]] = -30.0  # so improbable that the bound of q holds where u is small
    for found, expected in zip(slopes(z, LABELS, u.detach(), v.detach()), by_autograd(z, u, v), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)


def test_without_rates_it_is_cross_entropy_where_everything_is_probable():
    ours, z = method(lr_u=0.0, lr_v=0.0), logits()
    assert float(z.softmax(1).min()) > 1e-4
    for _ in range(3):
        torch.testing.assert_close(loss_of(ours, z, BATCH), F.cross_entropy(z, LABELS))
    torch.testing.assert_close(ours.losses(z, BATCH), F.cross_entropy(z, LABELS, reduction="none"))


def test_a_label_that_is_always_contradicted_is_absorbed_and_costs_nothing_in_the_end():
    """h = k != y: V_k and U_y go to 1, and q_y becomes all of q."""
    ours = method(lr_u=0.5, lr_v=0.5)
    z = 6.0 * F.one_hot((LABELS + 1) % K, K).float()
    ours.observe(z, BATCH)
    first = ours.losses(z, BATCH)
    for _ in range(500):
        ours.observe(z, BATCH)
    assert float(ours.u.square().min()) > 0.99
    absorbed = ours.v[ROWS, (LABELS + 1) % K].square()
    assert float(absorbed.min()) > 0.99
    assert float(ours.losses(z, BATCH).max()) < 0.02 < 1.0 < float(first.min())


def test_of_a_label_that_is_always_predicted_v_decays_and_u_settles():
    ours = method(lr_u=0.5, lr_v=0.5)
    ours.v.fill_(0.5)
    ours.u.fill_(0.5)
    z = 2.0 * F.one_hot(LABELS, K).float()
    for _ in range(3000):
        ours.observe(z, BATCH)
    others = F.one_hot(LABELS, K) == 0
    assert float(ours.v[others].abs().max()) < 0.1
    q = z.softmax(1)[:, 0][0] + ours.u[0].square()
    total = 1 + ours.u[0].square() - ours.v[0][others[0]].square().sum()
    assert float(2 * ours.u[0].square()) == pytest.approx(float(1 / q - 1 / total), abs=1e-3)


def test_a_correction_that_starts_at_zero_would_never_move():
    ours = method()
    assert 0 < float(ours.u.abs().min()) < float(ours.u.abs().max()) < 1e-6
    ours.u.zero_()
    ours.v.zero_()
    ours.observe(logits(), BATCH)
    assert not ours.u.any()
    assert not ours.v.any()


def test_a_batch_is_trained_on_with_what_the_steps_before_left():
    ours, z = method(lr_u=5.0, lr_v=5.0), logits()
    ours.u.fill_(0.6)
    before = ours.u.clone()
    ours.observe(z, BATCH)
    assert not torch.equal(ours.u, before)
    q = z.softmax(1) + before[:, None] ** 2 * F.one_hot(LABELS, K)
    expected = -(q[ROWS, LABELS] / q.sum(1)).log()
    torch.testing.assert_close(ours.losses(z, BATCH), expected)


def test_only_the_samples_of_the_batch_move():
    ours = method()
    before = ours.u.clone(), ours.v.clone()
    ours.observe(logits()[:3], Batch(torch.zeros(3, 1), LABELS[:3], ROWS[:3]))
    assert torch.equal(ours.u[3:], before[0][3:])
    assert torch.equal(ours.v[3:], before[1][3:])


def test_what_sop_plus_adds_by_hand():
    first, second = logits(), logits(1)
    both = torch.cat([first, second])
    plain = loss_of(method(), first, BATCH)
    p, log_q = first.softmax(1), second.log_softmax(1)
    apart = (p * (p.log() - log_q)).sum(1).mean()
    torch.testing.assert_close(loss_of(method(consistency=0.9), both, BATCH), plain + 0.9 * apart)
    even = -p.mean(0).log().mean()
    torch.testing.assert_close(loss_of(method(balance=0.1), first, BATCH), plain + 0.1 * even)


def test_no_gradient_goes_through_the_view_that_is_followed():
    z = torch.cat([logits(), logits(1)]).requires_grad_()
    alone, together = method(), method(consistency=0.9)
    loss_of(alone, z[:SIZE], BATCH).backward()
    expected, z.grad = z.grad, None
    loss_of(together, z, BATCH).backward()
    torch.testing.assert_close(z.grad[:SIZE], expected[:SIZE])
    assert z.grad[SIZE:].any()


def test_two_views_are_shown_only_where_they_are_compared():
    assert method().turns(0)[0][0].views == ("weak",)
    assert method(consistency=0.9).turns(0)[0][0].views == ("weak", "strong")
    assert method(consistency=0.9, strong_view="weak").turns(0)[0][0].views == ("weak", "weak")


@pytest.mark.parametrize("consistency", [0.0, 0.9])
def test_before_it_starts_it_is_cross_entropy_and_remembers_nothing(consistency):
    ours, z = method(start_epoch=1, consistency=consistency, balance=0.1), logits()
    before = ours.u.clone()
    given = torch.cat([z, logits(1)]) if consistency else z
    torch.testing.assert_close(loss_of(ours, given, BATCH), F.cross_entropy(z, LABELS))
    assert torch.equal(ours.u, before)
