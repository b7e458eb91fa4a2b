"""Which labels look wrong, how many are, and what a review certifies."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

import cmw_pipeline
from cmw_pipeline.audit.scores import (
    TrajectoryMargin,
    certified_precision,
    confident_joint,
    list_length,
    prior_margin,
)
from cmw_pipeline.errors import ConfigError


def planted(samples=4000, classes=5, rate=0.3, sure=0.9, seed=0):
    """True and given labels, shifted by one at the rate, and probabilities that know the truth."""
    rng = np.random.default_rng(seed)
    true = rng.integers(0, classes, samples)
    given = np.where(rng.random(samples) < rate, (true + 1) % classes, true)
    probabilities = np.full((samples, classes), (1 - sure) / (classes - 1))
    probabilities[np.arange(samples), true] = sure
    return true, given, probabilities


# --- the margin


def test_a_margin_above_zero_is_a_wrong_label_where_the_network_knows_the_truth():
    true, labels, probabilities = planted()
    found = prior_margin(probabilities, labels)
    assert np.array_equal(found.margin > 0, labels != true)
    assert np.array_equal(found.suggested, true)


def test_the_margin_is_its_formula():
    labels = np.array([0, 0, 0, 1])
    p = np.array([[0.6, 0.4]] * 4)
    expected = np.log(0.4 + 1e-6) - np.log(0.6 + 1e-6) - 0.5 * (np.log(1 / 4) - np.log(3 / 4))
    assert prior_margin(p, labels).margin == pytest.approx([expected] * 3 + [-expected])


def test_a_class_that_no_sample_has_is_never_suggested():
    found = prior_margin(np.array([[0.1, 0.0, 0.9]] * 4), np.array([0, 0, 1, 1]))
    assert set(found.suggested) <= {0, 1}
    assert np.isfinite(found.margin).all()


def test_one_class_alone_is_never_wrong():
    found = prior_margin(np.ones((3, 1)), np.zeros(3, np.int64))
    assert list_length(found.margin, None) == 0
    assert found.suggested.tolist() == [0, 0, 0]


def test_a_trajectory_is_the_mean_of_what_was_said_in_any_order_of_batches():
    rng = np.random.default_rng(0)
    logits = torch.from_numpy(rng.normal(size=(4, 30, 3)).astype(np.float32))
    labels = rng.integers(0, 3, 30)
    whole, parts = TrajectoryMargin(30, 3), TrajectoryMargin(30, 3)
    for epoch in logits:
        whole.update(torch.arange(30), epoch)
        for rows in torch.randperm(30).split(7):
            parts.update(rows, epoch[rows].requires_grad_())
    mean = logits.double().softmax(dim=2).mean(dim=0).numpy()
    assert whole.scores(labels) == pytest.approx(prior_margin(mean, labels).margin, abs=1e-5)
    assert np.allclose(parts.scores(labels), whole.scores(labels), atol=1e-6)


def test_a_sample_that_was_never_seen_is_named():
    margin = TrajectoryMargin(3, 2)
    margin.update(torch.tensor([0, 2]), torch.zeros(2, 2))
    with pytest.raises(ConfigError, match="1 of 3 samples"):
        margin.scores(np.array([0, 1, 0]))


def test_the_package_offers_it():
    assert cmw_pipeline.TrajectoryMargin is TrajectoryMargin


# --- the counts


def by_hand(probabilities, labels):
    """The calibrated joint, sample by sample, after section 3 of Northcutt et al. (2021).

    The thresholds are of the samples predicted as a class, not of those labelled so.
    """
    classes, predicted = probabilities.shape[1], probabilities.argmax(axis=1)
    threshold = [
        probabilities[predicted == j, j].mean() if (predicted == j).any() else np.inf for j in range(classes)
    ]
    table = np.zeros((classes, classes))
    for p, label in zip(probabilities, labels, strict=True):
        reached = [j for j in range(classes) if p[j] >= threshold[j]]
        if reached:
            table[label, max(reached, key=lambda j: p[j])] += 1
    joint = np.zeros_like(table)
    for i in range(classes):
        count = (labels == i).sum()
        if count and table[i].sum() == 0:
            joint[i, i] = count
        elif count:
            joint[i] = table[i] / table[i].sum() * count
    return joint / len(labels)


@settings(max_examples=50)
@given(st.integers(1, 6), st.integers(1, 40), st.integers(0, 2**32))
def test_the_joint_is_that_of_the_paper_with_thresholds_of_what_is_predicted(classes, samples, seed):
    rng = np.random.default_rng(seed)
    probabilities = rng.dirichlet(np.ones(classes), samples)
    labels = rng.integers(0, classes, samples)
    found = confident_joint(probabilities, labels, rng, draws=20)
    assert np.allclose(found.joint, by_hand(probabilities, labels))
    assert found.joint.sum() == pytest.approx(1)
    assert np.allclose(found.joint.sum(axis=1), np.bincount(labels, minlength=classes) / samples)
    sums = found.transition.sum(axis=1)
    assert np.allclose(sums[sums > 0], 1)
    for rate in (found.noise, found.noise_in, found.noise_out):
        assert (rate.low <= rate.value).all() and (rate.value <= rate.high).all()
        assert (rate.low > -1e-9).all() and (rate.high < 1 + 1e-9).all()


def test_rates_of_planted_noise_lie_in_their_intervals():
    true, labels, probabilities = planted()
    found = confident_joint(probabilities, labels, np.random.default_rng(0))
    assert found.num_wrong == (true != labels).sum()
    for j in range(5):
        assert found.noise_in.low[j] < (true != labels)[labels == j].mean() < found.noise_in.high[j]
        assert found.noise_out.low[j] < (true != labels)[true == j].mean() < found.noise_out.high[j]
        assert found.transition[j, (j + 1) % 5] == pytest.approx((labels[true == j] != j).mean())


def test_the_list_is_as_long_as_the_smaller_count():
    margin = np.array([2.0, 1.0, -1.0, 0.0])
    assert [list_length(margin, n) for n in (None, 1, 3)] == [2, 1, 2]


# --- the certificate


@settings(max_examples=50)
@given(st.integers(1, 300), st.data())
def test_a_list_of_the_certified_precision_gives_so_many_hits_with_the_stated_probability(reviewed, data):
    wrong = data.draw(st.integers(1, reviewed))
    bound = certified_precision(wrong, reviewed)
    assert binom.sf(wrong - 1, reviewed, bound) == pytest.approx(0.05)


def test_no_hit_certifies_nothing_and_an_impossible_review_is_refused():
    assert certified_precision(0, 10) == 0
    for wrong, reviewed in ((0, 0), (3, 2), (-1, 2)):
        with pytest.raises(ConfigError):
            certified_precision(wrong, reviewed)


def test_trusted_labels_count_as_right_and_change_nothing_of_the_others():
    """Whoever vouches for labels that the networks doubt halves the noise of twice as many samples."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 300)
    probabilities = rng.dirichlet([1, 1, 1], 300)
    alone = confident_joint(probabilities, labels, np.random.default_rng(1))
    twice = confident_joint(
        np.concatenate([probabilities, probabilities]),
        np.concatenate([labels, labels]),
        np.random.default_rng(1),
        trusted=np.arange(600) >= 300,
    )
    np.testing.assert_allclose(twice.noise.value, alone.noise.value / 2)
    np.testing.assert_allclose(twice.noise_in.value, alone.noise_in.value / 2)
    own = np.diag(np.bincount(labels, minlength=3) / 300)
    np.testing.assert_allclose(twice.joint, (alone.joint + own) / 2)
    every = confident_joint(probabilities, labels, np.random.default_rng(1), trusted=np.ones(300, bool))
    assert every.noise.value == every.noise.high == 0 and every.num_wrong == 0


@pytest.mark.parametrize(
    ("logits", "said"),
    [
        (torch.zeros(3, 1), r"logits of shape \(3, 1\) for 3 rows; expected \(3, 2\)"),
        (torch.zeros(1, 2), r"logits of shape \(1, 2\) for 3 rows"),
        (torch.tensor([[0.0, 1.0], [float("nan"), 0.0], [1.0, 0.0]]), "not finite"),
    ],
)
def test_logits_that_say_nothing_of_the_samples_are_refused(logits, said):
    seen = cmw_pipeline.TrajectoryMargin(num_samples=3, num_classes=2)
    with pytest.raises(ConfigError, match=said):
        seen.update(torch.arange(3), logits)
    assert not seen.updates.any()
