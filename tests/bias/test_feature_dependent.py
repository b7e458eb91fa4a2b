"""Feature-dependent noise: hand-computed draws, the factor that gives a level, and what cannot be reached."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from cmw_pipeline.bias.compose import apply_bias
from cmw_pipeline.bias.feature_dependent import (
    feature_dependent,
    keep_probability,
    solve_factor,
    top_two,
)
from cmw_pipeline.bias.long_tail import long_tail
from cmw_pipeline.config.bias_kinds import GENERATED
from cmw_pipeline.config.bias_names import parse_bias
from cmw_pipeline.config.datasets import FACTS
from cmw_pipeline.errors import ConfigError
from cmw_pipeline.runtime.seeds import stream

CLASSES, ROWS = 10, 20_000


def teacher(rows=ROWS, classes=CLASSES, sharpness=4.0, seed=0):
    """Labels, and a posterior that mostly finds them."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, rows).astype(np.int16)
    logits = rng.normal(size=(rows, classes))
    logits[np.arange(rows), labels] += sharpness * rng.random(rows)
    logits *= 2
    posterior = np.exp(logits - logits.max(axis=1, keepdims=True))
    return labels, (posterior / posterior.sum(axis=1, keepdims=True)).astype(np.float32)


LABELS, POSTERIOR = teacher()
posteriors = st.builds(
    lambda rows, classes, sharpness, seed: teacher(rows, classes, sharpness, seed),
    st.integers(1, 60),
    st.integers(2, 5),
    st.floats(0, 6),
    st.integers(0, 10**6),
)


def rng(seed=0):
    return np.random.Generator(np.random.PCG64(seed))


# --- by hand


def test_top_two_and_ties():
    first, second, margin = top_two(np.array([[0.1, 0.7, 0.2], [0.4, 0.2, 0.4], [0.0, 0.0, 1.0]]))
    assert (first.tolist(), second.tolist()) == ([1, 0, 2], [2, 2, 0])
    assert margin == pytest.approx([0.5, 0.0, 1.0])
    assert first.dtype == second.dtype == np.int16


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_the_margin_is_taken_in_double_precision(dtype):
    assert top_two(np.array([[0.75, 0.25]], dtype=dtype))[2].tolist() == [0.5]
    assert top_two(np.array([[0.75, 0.25]], dtype=dtype))[2].dtype == np.float64


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("type1", [0.5, 0.625, 0.82, 1.0]),
        ("type2", [0.0, 0.125, 0.512, 1.0]),
        ("type3", [0.0, 0.875 / 3, (0.512 + 0.64 + 0.8) / 3, 1.0]),
    ],
)
def test_keep_probabilities(kind, values):
    assert keep_probability(kind, np.array([0.0, 0.5, 0.8, 1.0])) == pytest.approx(values)


def expected_level(kind, posterior, labels, factor):
    """The mean probability of another label than the dataset's, sample by sample."""
    first, second, margin = top_two(posterior)
    keep = keep_probability(kind, margin) / factor
    return np.mean(keep * (first != labels) + (1 - keep) * (second != labels))


def test_expected_level_by_hand():
    """Margins 0.5, 0.8 and 0: the teacher is right, wrong with a right second choice, and wrong twice."""
    posterior = np.array([[0.7, 0.2, 0.1], [0.1, 0.9, 0.0], [0.5, 0.5, 0.0]])
    labels = np.array([0, 0, 2], dtype=np.int16)
    keep = [0.625 / 2, 0.82 / 2]
    assert expected_level("type1", posterior, labels, 2.0) == pytest.approx((1 - keep[0] + keep[1] + 1) / 3)


def test_a_certain_teacher_and_factor_one_change_nothing():
    labels = np.array([2, 0, 1], dtype=np.int16)
    for kind in GENERATED:
        assert feature_dependent(kind, np.eye(3)[labels], 1.0, rng()).tolist() == labels.tolist()
        assert expected_level(kind, np.eye(3)[labels], labels, 1.0) == 0.0


# --- properties


@given(posteriors, st.sampled_from(GENERATED), st.floats(1, 50), st.integers(0, 2**31 - 1))
@settings(max_examples=80)
def test_a_label_is_one_of_the_two_most_probable(drawn, kind, factor, seed):
    _, posterior = drawn
    before = posterior.copy()
    noisy = feature_dependent(kind, posterior, factor, rng(seed))
    first, second, _ = top_two(posterior)
    assert noisy.dtype == np.int16 and noisy.shape == first.shape
    assert ((noisy == first) | (noisy == second)).all()
    assert (posterior == before).all()


@given(posteriors, st.sampled_from(GENERATED), st.floats(0.001, 0.999))
@settings(max_examples=100)
def test_the_solved_factor_gives_the_level_exactly(drawn, kind, position):
    labels, posterior = drawn
    lowest, highest = (expected_level(kind, posterior, labels, f) for f in (1.0, np.inf))
    if abs(highest - lowest) < 1e-6:
        return
    level = lowest + position * (highest - lowest)
    solved = solve_factor(kind, posterior, labels, level)
    assert solved >= 1
    assert expected_level(kind, posterior, labels, solved) == pytest.approx(level, abs=1e-9)


@pytest.mark.parametrize("slip", [-1e-12, 0.0, 1e-12])
@pytest.mark.parametrize("kind", GENERATED)
def test_the_end_of_what_can_be_reached_has_the_factor_one_however_it_is_rounded(kind, slip):
    solved = solve_factor(kind, POSTERIOR, LABELS, expected_level(kind, POSTERIOR, LABELS, 1.0) + slip)
    assert 1 <= solved <= 1 + 1e-9


@given(posteriors, st.sampled_from(GENERATED))
@settings(max_examples=50)
def test_the_level_is_monotone_in_the_factor(drawn, kind):
    labels, posterior = drawn
    levels = [expected_level(kind, posterior, labels, f) for f in (1, 1.1, 1.5, 2, 3, 10, 100)]
    steps = np.diff(levels)
    assert (steps >= -1e-12).all() or (steps <= 1e-12).all()


@pytest.mark.parametrize("level", [0.6, 0.7])
@pytest.mark.parametrize("kind", GENERATED)
def test_the_realised_level_is_the_wanted_one(kind, level):
    solved = solve_factor(kind, POSTERIOR, LABELS, level)
    noisy = feature_dependent(kind, POSTERIOR, solved, rng(1))
    # A sum of independent draws with mean 20,000 x level; its spread is at most the binomial's.
    assert stats.binomtest(int((noisy != LABELS).sum()), ROWS, level).pvalue > 1e-3


@pytest.mark.parametrize("kind", GENERATED)
def test_unsure_samples_are_flipped_more_often(kind):
    first, _, margin = top_two(POSTERIOR)
    noisy = feature_dependent(kind, POSTERIOR, 1.3, rng(2))
    for low, high in ((0.0, 0.2), (0.4, 0.6), (0.8, 1.0)):
        within = (margin >= low) & (margin < high)
        expected = float((keep_probability(kind, margin[within]) / 1.3).mean())
        kept = int((noisy == first)[within].sum())
        assert abs(kept - expected * within.sum()) < 5 * np.sqrt(within.sum() / 4)


@pytest.mark.parametrize("level", [0.0, 0.05, 0.999])
@pytest.mark.parametrize("kind", GENERATED)
def test_an_unreachable_level_says_what_can_be_reached(kind, level):
    lowest, highest = (expected_level(kind, POSTERIOR, LABELS, f) for f in (1.0, np.inf))
    words = rf"{kind}-{level:g}: .* reaches levels from {lowest:.4f} to {highest:.4f} only\nHint: "
    with pytest.raises(ConfigError, match=words):
        solve_factor(kind, POSTERIOR, LABELS, level)


def test_a_teacher_whose_two_choices_are_both_wrong_reaches_one_level():
    with pytest.raises(ConfigError, match=r"from 1\.0000 to 1\.0000"):
        solve_factor("type1", np.array([[0.6, 0.4, 0.0]]), np.array([2], np.int16), 0.35)


# --- in a bias


def test_a_step_draws_with_its_own_stream_and_solved_factor():
    (step,) = parse_bias("type1-0.6")
    biased = apply_bias(LABELS, (step,), FACTS["digits"], 3, posterior=POSTERIOR)
    assert biased.factor == solve_factor("type1", POSTERIOR, LABELS, 0.6)
    draw = stream(3, "inject", "digits", 0, "type1-0.6")
    assert (biased.labels == feature_dependent("type1", POSTERIOR, biased.factor, draw)).all()
    assert biased.kept.all()


def test_the_level_is_that_of_the_samples_that_a_long_tail_keeps():
    steps = parse_bias("lt-20+type3-0.65")
    biased = apply_bias(LABELS, steps, FACTS["digits"], 0, posterior=POSTERIOR)
    kept = biased.kept
    assert (kept == long_tail(LABELS, 20, 10, stream(0, "inject", "digits", 0, "lt-20"))).all()
    assert (biased.labels[~kept] == LABELS[~kept]).all()
    assert biased.factor == solve_factor("type3", POSTERIOR[kept], LABELS[kept], 0.65)
    share = stats.binomtest(int((biased.labels != LABELS)[kept].sum()), int(kept.sum()), 0.65)
    assert share.pvalue > 1e-3


def test_published_factors_are_used_by_name():
    for source, bias, factor in (
        ("cifar10", "published:type1-0.7", 3.40),
        ("cifar100", "published:type2-0.35", 1.02),
    ):
        labels, posterior = teacher(rows=200, classes=FACTS[source].num_classes)
        biased = apply_bias(labels, parse_bias(bias), FACTS[source], 0, posterior=posterior)
        assert biased.factor == factor
        assert FACTS[source].factor(parse_bias(bias)[0]) == factor
    with pytest.raises(KeyError, match=r"cifar10 has no factor published:type1-0.5; it has published:type1-"):
        apply_bias(LABELS, parse_bias("published:type1-0.5"), FACTS["cifar10"], 0, posterior=POSTERIOR)


def test_a_step_without_its_posterior_is_refused():
    with pytest.raises(ValueError, match=r"type1-0\.35 needs a teacher's posterior"):
        apply_bias(LABELS, parse_bias("type1-0.35"), FACTS["digits"], 0)
