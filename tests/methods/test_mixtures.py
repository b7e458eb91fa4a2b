"""Mixtures on the losses, and M-correction, against written-out formulas and other people's libraries."""

import copy
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from pydantic import TypeAdapter
from scipy import stats
from torch import nn

from cmw_pipeline.config.methods import Method as Options
from cmw_pipeline.errors import NumericsError
from cmw_pipeline.methods.base import Batch, Networks, Problem
from cmw_pipeline.methods.parts import mixing
from cmw_pipeline.methods.parts.mixtures import (
    BetaMixture,
    beta_table,
    fit_beta_mixture,
    low_loss_posterior,
    min_max,
    split,
    trimmed_range,
    unit,
)
from cmw_pipeline.methods.registry import build
from tests.support.tiny import loss_of

CLASSES = 4


def auc(scores, truth):
    """Chance that a positive has the higher score."""
    low, high = scores[~truth], scores[truth]
    return (high[:, None] > low[None, :]).mean() + 0.5 * (high[:, None] == low[None, :]).mean()


def planted_betas(seed=0, size=2000):
    rng = np.random.default_rng(seed)
    wrong = rng.random(size) < 0.4
    values = np.where(wrong, rng.beta(8, 3, size), rng.beta(2, 6, size))
    return values.clip(1e-4, 1 - 1e-4), wrong


# --- the Beta mixture


def test_the_posterior_is_bayes_rule_with_scipys_densities():
    mixture = BetaMixture(np.array([7.0, 1.5]), np.array([2.0, 4.0]), np.array([0.3, 0.7]))
    x = np.linspace(0.01, 0.99, 50)
    joint = [s * stats.beta.pdf(x, a, b) for a, b, s in [(7.0, 2.0, 0.3), (1.5, 4.0, 0.7)]]
    np.testing.assert_allclose(mixture.joint(x), joint, rtol=1e-10)
    np.testing.assert_allclose(mixture.posterior(x), joint[0] / (joint[0] + joint[1]), rtol=1e-9)


def test_ten_steps_rank_two_planted_betas_and_a_hundred_find_them():
    values, wrong = planted_betas()
    assert auc(fit_beta_mixture(values, 10).posterior(values), wrong) > 0.97
    found = fit_beta_mixture(values, 100)
    means = found.alpha / (found.alpha + found.beta)
    np.testing.assert_allclose(sorted(means), [2 / 8, 8 / 11], atol=0.03)
    assert found.share.sum() == pytest.approx(1)
    assert found.share[means.argmax()] == pytest.approx(0.4, abs=0.05)


def test_one_m_step_is_the_method_of_moments_written_out():
    values = np.array([0.1, 0.2, 0.3, 0.7, 0.9])
    densities = np.array([2 * (1 - values), 2 * values])  # Beta(1, 2) and Beta(2, 1)
    blame = densities / densities.sum(axis=0)
    mixture = fit_beta_mixture(values, 1)
    for k in range(2):
        m = (blame[k] * values).sum() / blame[k].sum()
        v = (blame[k] * (values - m) ** 2).sum() / blame[k].sum()
        a = m * (m * (1 - m) / v - 1)
        assert mixture.alpha[k] == pytest.approx(a)
        assert mixture.beta[k] == pytest.approx(a * (1 - m) / m)
        assert mixture.share[k] == pytest.approx(blame[k].sum() / 5)


def test_the_table_never_falls_past_its_maximum():
    """A narrow high component: towards 1 the broad low one would win again."""
    mixture = BetaMixture(np.array([1.0, 80.0]), np.array([1.0, 20.0]), np.array([0.5, 0.5]))
    grid = np.linspace(1e-12, 1 - 1e-12, 100)
    raw, table = mixture.posterior(grid), mixture.table(100)
    top = raw.argmax()
    assert raw[-1] < 0.1 < 0.9 < raw[top]
    np.testing.assert_array_equal(table[: top + 1], raw[: top + 1])
    assert (table[top:] == raw[top]).all()


def test_equal_losses_and_outliers_give_finite_tables():
    for losses in (torch.full((50,), 0.7), torch.cat([torch.rand(50), torch.tensor([1e4])])):
        low, high = trimmed_range(losses, 5)
        assert np.isfinite(beta_table(losses, low, high, 10, 100)).all()


def test_the_table_ranks_planted_losses_and_outliers_hardly_move_it():
    values, wrong = planted_betas()
    losses = torch.from_numpy(values * 6)

    def score(extra):
        everything = torch.cat([losses, extra])
        low, high = trimmed_range(everything, 5)
        table = beta_table(everything, low, high, 10, 100)
        place = (unit(losses, torch.tensor(low), torch.tensor(high)) * 100).long().numpy()
        return table[place]

    calm, wild = score(torch.empty(0)), score(torch.full((40,), 1e3))
    assert auc(calm, wrong) > 0.95
    assert auc(wild, wrong) > 0.95


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_losses_that_are_not_finite_stop_the_run(bad):
    losses = torch.tensor([0.1, 0.5, bad])
    with pytest.raises(NumericsError):
        trimmed_range(losses, 5)
    with pytest.raises(NumericsError):
        low_loss_posterior(losses, 10, 1e-2, 5e-4)


# --- the Gaussian mixture and the split


def test_the_gaussian_posterior_is_of_the_lower_component():
    rng = np.random.default_rng(1)
    wrong = rng.random(1000) < 0.5
    losses = torch.from_numpy(np.where(wrong, rng.normal(0.7, 0.1, 1000), rng.normal(0.1, 0.05, 1000)))
    posterior = low_loss_posterior(min_max(losses), 10, 1e-2, 5e-4)
    assert auc(posterior, ~wrong) > 0.999
    order = losses.numpy().argsort()
    assert posterior[order[0]] > 0.99 > 0.01 > posterior[order[-1]]
    np.testing.assert_array_equal(posterior, low_loss_posterior(min_max(losses), 10, 1e-2, 5e-4))


def test_min_max_scales_and_survives_equal_losses():
    assert min_max(torch.tensor([2.0, 3.0, 6.0])).tolist() == [0.0, 0.25, 1.0]
    assert min_max(torch.full((3,), 2.0)).tolist() == [0.0] * 3


def test_the_split_is_above_and_not_above_the_threshold():
    above, below = split(np.array([0.9, 0.5, 0.2, 0.51]), 0.5)
    assert (above.tolist(), below.tolist()) == ([0, 3], [1, 2])


@pytest.mark.parametrize("values", [[0.9, 0.8, 0.95], [0.1, 0.2, 0.3]])
def test_neither_part_of_a_split_is_empty(values):
    above, below = split(np.array(values), 0.5)
    assert len(above) > 0 < len(below)
    assert sorted([*above, *below]) == [0, 1, 2]
    assert min(np.array(values)[above]) > max(np.array(values)[below])


def test_equal_posteriors_give_everything_to_both_parts():
    assert [part.tolist() for part in split(np.ones(3), 0.5)] == [[0, 1, 2], [0, 1, 2]]


# --- what is shared by the methods


def test_the_divergence_from_uniform_is_the_textbooks():
    logits = torch.randn(7, CLASSES)
    mean = logits.softmax(dim=1).mean(dim=0)
    expected = stats.entropy(np.full(CLASSES, 1 / CLASSES), mean.numpy())
    assert mixing.divergence_from_uniform(logits).item() == pytest.approx(expected, rel=1e-4)
    assert mixing.divergence_from_uniform(torch.zeros(3, CLASSES)).item() == pytest.approx(0, abs=1e-6)
    one_class = torch.tensor([[200.0, 0.0, 0.0, 0.0]])
    assert torch.isfinite(mixing.divergence_from_uniform(one_class))


def test_sharpening_squares_at_temperature_one_half_and_keeps_at_one():
    p = torch.tensor([[0.6, 0.3, 0.1]])
    torch.testing.assert_close(mixing.sharpen(p, 0.5), p**2 / (p**2).sum())
    torch.testing.assert_close(mixing.sharpen(p, 1.0), p)


def test_only_training_mode_moves_the_statistics_and_the_mode_is_put_back():
    net, images = network(), torch.randn(6, 1, 8, 8)
    for training in (True, False):
        net.train(not training)
        before = net[1].running_mean.clone()
        found = mixing.logits_in_mode(net, images, training)
        assert net.training is not training
        assert torch.equal(net[1].running_mean, before) is not training
        assert not found.requires_grad


# --- M-correction


def network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, CLASSES)
    )


def m_correction(size=60, **changes):
    body = {"kind": "m-correction", "label": "-", "bootstrap_epoch": 2} | changes
    labels = torch.arange(size) % CLASSES
    return build(TypeAdapter(Options).validate_python(body), Problem(CLASSES, labels), 0)


def some_batch(size=12):
    rng = torch.Generator().manual_seed(3)
    labels = torch.randint(0, CLASSES, (size,), generator=rng)
    return Batch(torch.randn(size, 1, 8, 8, generator=rng), labels, torch.arange(size))


def asked(net):
    return Networks(net, None, lambda network: torch.zeros(60, CLASSES))


def fixed(monkeypatch, lam, partners):
    for name in ("m_correction", "dividemix"):
        module = f"cmw_pipeline.methods.{name}"
        monkeypatch.setattr(f"{module}.draw_lambda", lambda alpha, device: torch.tensor(lam))
        monkeypatch.setattr(f"{module}.draw_partners", lambda size, device: partners)


def at(method, epoch, table=None):
    method.begin_epoch(epoch)
    if table is not None:
        method.table.copy_(table)
        method.bounds.copy_(torch.tensor([0.0, 3.0]))
    return method


def test_before_correction_it_is_mixup(monkeypatch):
    partners = torch.arange(12).roll(1)
    fixed(monkeypatch, 0.7, partners)
    method, batch, logits = at(m_correction(), 1), some_batch(), torch.randn(12, CLASSES)
    seen = method.prepare(batch, asked(network()))
    torch.testing.assert_close(seen.images, 0.7 * batch.images + 0.3 * batch.images[partners])
    own, partner = (F.cross_entropy(logits, y) for y in (batch.labels, batch.labels[partners]))
    torch.testing.assert_close(loss_of(method, logits, seen), 0.7 * own + 0.3 * partner)


def test_no_mixing_and_no_wrong_labels_is_cross_entropy(monkeypatch):
    fixed(monkeypatch, 1.0, torch.arange(12))
    method = at(m_correction(prior_penalty=0.0), 2, torch.zeros(100))
    batch, logits = some_batch(), torch.randn(12, CLASSES)
    seen = method.prepare(batch, asked(network()))
    found = loss_of(method, logits, seen)
    assert found.item() == pytest.approx(F.cross_entropy(logits, batch.labels).item(), rel=1e-3)


@pytest.mark.parametrize("targets", ["hard", "soft"])
def test_the_corrected_loss_written_out(monkeypatch, targets):
    """λ [(1 − B) CE(y) + B CE(h)] + (1 − λ) [the partner's] + KL; B from the loss in evaluation mode."""
    lam, partners = 0.8, torch.arange(12).roll(5)
    fixed(monkeypatch, lam, partners)
    net, batch, logits = network(), some_batch(), torch.randn(12, CLASSES)
    table = torch.linspace(0, 1, 100)
    method = at(m_correction(targets=targets), 2, table)
    oracle = copy.deepcopy(net)
    seen = method.prepare(batch, asked(net))

    with torch.no_grad():
        losses = F.cross_entropy(oracle.eval()(batch.images), batch.labels, reduction="none")
        told = oracle.train()(batch.images).softmax(dim=1)
    total = 0.0
    log_p = logits.log_softmax(dim=1)

    def end(i, place):
        share = min(max(losses[i].item() / (3 + 1e-6), 1e-3), 1 - 1e-3)
        wrong = min(max(table[int(100 * share)].item(), 1e-4), 1 - 1e-4)
        h = told[i] if targets == "soft" else F.one_hot(told[i].argmax(), CLASSES).float()
        return -(1 - wrong) * log_p[place, batch.labels[i]] - wrong * (h * log_p[place]).sum()

    for i in range(12):
        total += (lam * end(i, i) + (1 - lam) * end(int(partners[i]), i)).item() / 12
    mean = logits.softmax(dim=1).mean(dim=0)
    total += (0.25 * (0.25 / mean).log()).sum().item()
    assert loss_of(method, logits, seen).item() == pytest.approx(total, rel=1e-4)
    for found, expected in zip(net.buffers(), oracle.buffers(), strict=True):
        torch.testing.assert_close(found, expected)  # one pass in training mode, as published


def test_guided_mixing_shows_the_sample_that_is_right(monkeypatch):
    partners = torch.arange(12).roll(1)
    fixed(monkeypatch, 0.9, partners)
    method = m_correction(guided_epoch=1, targets="annealed")
    at(method, 1, torch.linspace(0, 1, 100))
    batch, net = some_batch(), network()
    seen = method.prepare(batch, asked(net))
    losses = F.cross_entropy(net.eval()(batch.images), batch.labels, reduction="none")
    right = method.weights(losses.detach(), batch)
    share = (right / (right + right[partners]))[:, None, None, None]
    torch.testing.assert_close(seen.images, share * batch.images + (1 - share) * batch.images[partners])
    hot = F.one_hot(batch.labels, CLASSES).float()
    torch.testing.assert_close(seen.evidence["targets"], 0.9 * hot + 0.1 * hot[partners])
    at(method, 2, torch.zeros(100))
    halves = method.prepare(batch, asked(net)).evidence["targets"]
    torch.testing.assert_close(halves, (hot + hot[partners]) / 2, atol=1e-3, rtol=0)


def test_the_temperature_falls_in_even_steps_and_stays():
    method = m_correction(targets="annealed", temperature_epochs=5, last_temperature=0.2)
    found = []
    for epoch in range(9):
        method.begin_epoch(epoch)
        found.append(round(method.temperature.item(), 4))
    assert found == [1, 1, 1, 0.8, 0.6, 0.4, 0.2, 0.2, 0.2]


def test_the_fit_before_an_epoch_finds_the_planted_wrong_labels():
    rng = np.random.default_rng(0)
    wrong = rng.random(400) < 0.4
    method = m_correction(400)
    given = F.one_hot(method.labels, CLASSES).double()
    margin = torch.from_numpy(np.where(wrong, rng.normal(-3, 1, 400), rng.normal(3, 1, 400)))
    networks = Networks(nn.Identity(), None, lambda network: margin[:, None] * given)
    losses = F.cross_entropy(margin[:, None] * given, method.labels, reduction="none")
    method.begin_epoch(1)
    method.between_epochs(1, networks)
    assert not method.table.any()  # plain mixup needs no mixture
    assert method.weights(losses, SimpleNamespace()).min() > 0.99
    method.begin_epoch(2)
    method.between_epochs(2, networks)
    found = method.weights(losses, SimpleNamespace()).numpy()
    assert auc(found, ~wrong) > 0.99
    assert found[~wrong].mean() > 0.85 > 0.15 > found[wrong].mean()
