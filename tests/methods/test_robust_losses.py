"""Losses that are robust to wrong labels, or know the prior, against their formulas and their limits."""

import math

import pytest
import torch
import torch.nn.functional as F

from cmw_pipeline.methods.base import Batch, Problem
from cmw_pipeline.methods.parts import losses
from cmw_pipeline.methods.registry import build
from cmw_pipeline.training.evaluate import predict
from cmw_pipeline.training.outcome import losses_and_weights
from tests.support.tiny import options, state, task

K = 5
COUNTS = torch.tensor([500, 300, 100, 20, 1])


@pytest.fixture
def batch():
    draw = torch.Generator().manual_seed(0)
    return 3 * torch.randn(12, K, generator=draw, dtype=torch.float64), torch.arange(12) % K


def said(kind, logits, labels, **changes):
    """The losses of a method, as training asks for them."""
    counts = torch.arange(K).repeat_interleave(COUNTS)
    method = build(options(kind, **changes), Problem(K, counts), seed=0)
    return method.losses(logits, Batch(torch.zeros(len(labels), 1, 8, 8), labels, labels))


def by_target(logits, target):
    return -(target * logits.log_softmax(dim=1)).sum(dim=1)


def test_reverse_cross_entropy_is_the_cross_entropy_of_the_clipped_label(batch):
    logits, labels = batch
    clipped = F.one_hot(labels, K).double().clamp(min=1e-4)
    expected = -(logits.softmax(dim=1) * clipped.log()).sum(dim=1)
    torch.testing.assert_close(losses.reverse_cross_entropy(logits, labels), expected)
    torch.testing.assert_close(said("sce", logits, labels, alpha=0.0, beta=2.0), 2 * expected)
    both = 0.1 * F.cross_entropy(logits, labels, reduction="none") + expected
    torch.testing.assert_close(said("sce", logits, labels), both)


def test_normalised_cross_entropies_of_all_labels_sum_to_1(batch):
    logits, labels = batch
    every = [said("nce-rce", logits, torch.full_like(labels, k), beta=0.0) for k in range(K)]
    torch.testing.assert_close(torch.stack(every).sum(dim=0), torch.ones(12).double())
    passive = said("nce-rce", logits, labels, alpha=0.0, beta=1.0)
    torch.testing.assert_close(passive, losses.reverse_cross_entropy(logits, labels))


@pytest.mark.parametrize("pi", [0.1, 0.5, 0.9])
def test_jensen_shannon_is_the_mean_divergence_from_the_mixture(batch, pi):
    logits, labels = batch
    p, t = logits.softmax(dim=1), F.one_hot(labels, K).double()
    m = pi * t + (1 - pi) * p
    of_t = torch.special.xlogy(t, t / m).sum(dim=1)
    of_p = torch.special.xlogy(p, p / m).sum(dim=1)
    expected = (pi * of_t + (1 - pi) * of_p) / (-(1 - pi) * math.log(1 - pi))
    torch.testing.assert_close(said("jensen-shannon", logits, labels, pi=pi), expected)


def test_jensen_shannon_starts_as_cross_entropy(batch):
    logits, labels = batch
    cross_entropy = F.cross_entropy(logits, labels, reduction="none")
    found = losses.jensen_shannon(1e-7)(logits, labels)
    torch.testing.assert_close(found, cross_entropy, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("pi", [0.1, 0.5, 0.9])
def test_with_equal_views_the_generalised_divergence_is_that_of_one(batch, pi):
    logits, labels = batch
    found = said("gjs", torch.cat([logits, logits]), labels, pi=pi)
    torch.testing.assert_close(found, said("jensen-shannon", logits, labels, pi=pi))


def test_the_generalised_divergence_of_two_views_by_its_parts(batch):
    logits, labels = batch
    other, pi = logits.flip(0), 0.3
    parts = F.one_hot(labels, K).double(), logits.softmax(dim=1), other.softmax(dim=1)
    shares = pi, (1 - pi) / 2, (1 - pi) / 2
    m = sum(share * part for share, part in zip(shares, parts, strict=True))
    of_parts = [
        share * torch.special.xlogy(part, part / m).sum(dim=1)
        for share, part in zip(shares, parts, strict=True)
    ]
    expected = sum(of_parts) / (-(1 - pi) * math.log(1 - pi))
    torch.testing.assert_close(said("gjs", torch.cat([logits, other]), labels, pi=pi), expected)


def cores(epoch, **changes):
    counts = torch.arange(K).repeat_interleave(COUNTS)
    method = build(options("cores", **changes), Problem(K, counts), seed=0)
    method.begin_epoch(epoch)
    return method


def of_cores(method, logits, labels):
    return method.objective(logits, Batch(torch.zeros(len(labels), 1, 8, 8), labels, labels), method.weigh)


def test_cores_rewards_confidence_more_and_more(batch):
    logits, labels = batch
    given = F.cross_entropy(logits, labels)
    even = -(logits.softmax(dim=1) + 1e-8).log().mean()
    for epoch, beta in ((0, 0.0), (2, 0.0), (4, 1.0), (6, 2.0), (9, 2.0)):
        method = cores(epoch, beta=2.0, reward_from=2, ramp_epochs=4, sieve_from=20)
        torch.testing.assert_close(of_cores(method, logits, labels), given - beta * even)


def test_cores_leaves_out_labels_that_are_less_probable_than_classes_are(batch):
    logits, labels = batch
    given = F.cross_entropy(logits, labels, reduction="none")
    even = -(logits.softmax(dim=1) + 1e-8).log().mean(dim=1)
    kept = given <= even
    assert 0 < int(kept.sum()) < len(labels)
    method = cores(5, beta=2.0, reward_from=0, ramp_epochs=1, sieve_from=5)
    torch.testing.assert_close(of_cores(method, logits, labels), (given - 2 * even)[kept].mean())


@pytest.mark.parametrize("rate", [0.3, 0.0, -0.2])
def test_label_smoothing_is_cross_entropy_with_the_smoothed_label(batch, rate):
    logits, labels = batch
    target = (1 - rate) * F.one_hot(labels, K) + rate / K
    expected = -(target * (logits.softmax(dim=1) + 1e-8).log()).sum(dim=1)
    found = said("label-smoothing", logits, labels, rate=rate)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("size", [1e2, 1e6, 1e30])
def test_confidence_without_end_is_not_rewarded_without_end(size):
    labels = torch.arange(K)
    logits = size * F.one_hot(labels, K).float()
    most = -math.log(1e-8)
    assert float(said("label-smoothing", logits, labels, rate=-0.2).min()) >= -0.2 * most
    assert (
        float(of_cores(cores(9, beta=2.0, reward_from=0, ramp_epochs=1, sieve_from=5), logits, labels))
        >= -2 * most
    )


@pytest.mark.parametrize("share", [1.0, 0.8])
def test_bootstrap_learns_from_the_label_and_from_its_own_prediction(batch, share):
    logits, labels = batch
    target = share * F.one_hot(labels, K) + (1 - share) * logits.softmax(dim=1)
    expected = by_target(logits, target)
    torch.testing.assert_close(said("bootstrap", logits, labels, label_share=share), expected)


def test_the_gradient_of_bootstrap_goes_through_its_prediction_too(batch):
    logits, labels = batch

    def slope(find):
        z = logits.clone().requires_grad_()
        return torch.autograd.grad(find(z).sum(), z)[0]

    found = slope(lambda z: said("bootstrap", z, labels, label_share=0.5))
    of_label = slope(lambda z: F.cross_entropy(z, labels, reduction="none"))
    of_prediction = slope(lambda z: by_target(z, z.softmax(dim=1)))
    torch.testing.assert_close(found, (of_label + of_prediction) / 2)


# --- losses that know the prior


def test_with_equal_counts_logit_adjustment_is_cross_entropy(batch):
    logits, labels = batch
    found = losses.logit_adjustment(torch.full((K,), 7), 1.3, 0.5)(logits, labels)
    torch.testing.assert_close(found, F.cross_entropy(logits, labels, reduction="none"))


def test_balanced_softmax_weighs_each_class_by_its_count(batch):
    """Ren et al., equation 4: n_y e^z_y / Σ n_k e^z_k."""
    logits, labels = batch
    mass = COUNTS * logits.exp()
    expected = -(mass.gather(1, labels[:, None])[:, 0] / mass.sum(dim=1)).log()
    torch.testing.assert_close(said("logit-adjustment", logits, labels), expected)


def test_of_two_classes_the_margin_is_the_log_ratio_of_their_sizes():
    logits = torch.tensor([[2.0, 1.0]])
    found = losses.logit_adjustment(torch.tensor([90, 10]), 1.0)(logits, torch.tensor([1]))
    assert float(found) == pytest.approx(math.log1p(math.exp(1.0 + math.log(9))))


def test_vector_scaling_divides_the_logits_of_small_classes(batch):
    logits, labels = batch
    divisor = (COUNTS.max() / COUNTS.double()) ** 0.2
    expected = F.cross_entropy(logits / divisor, labels, reduction="none")
    torch.testing.assert_close(
        said("logit-adjustment", logits, labels, tau=0.0, gamma=0.2), expected, rtol=1e-5, atol=1e-6
    )


def test_an_empty_class_does_no_harm(batch):
    logits, labels = batch
    found = losses.logit_adjustment(torch.tensor([9, 9, 9, 9, 0]), 1.0, 0.3)(logits, labels)
    assert torch.isfinite(found).all()


@pytest.mark.parametrize("kind", ["sce", "nce-rce", "jensen-shannon", "label-smoothing", "bootstrap"])
def test_before_the_method_starts_it_is_cross_entropy(batch, kind):
    logits, labels = batch
    cross_entropy = F.cross_entropy(logits, labels, reduction="none")
    torch.testing.assert_close(said(kind, logits, labels, start_epoch=2), cross_entropy)


@pytest.mark.parametrize(
    "kind",
    ["erm", "sce", "ldam", "gce", "focal", "nce-rce", "jensen-shannon", "logit-adjustment", "bootstrap"],
)
def test_recorded_weights_are_those_of_the_loss_that_the_weight_net_has_learned_of(kind):
    run, trained = task(f"{kind}/cmw-net"), state(task(f"{kind}/cmw-net"), f"{kind}/cmw-net")
    trained.method.begin_epoch(9)
    recorded, weights = losses_and_weights(run, trained)
    with torch.no_grad():
        logits = predict(trained.model, run.store, run.num_train, run.recipe)
        labels = run.problem.labels
        own = trained.method.losses(logits, Batch(logits, labels, labels))
        expected = trained.method.weighting.net.eval()(own, trained.method.weighting.groups[labels])
    torch.testing.assert_close(recorded, F.cross_entropy(logits, labels, reduction="none"))
    torch.testing.assert_close(weights, expected)
