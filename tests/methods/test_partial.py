"""Partial labels: the law of the candidate sets, what training may see, PRODEN, and CMW-Net after it."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cmw_pipeline.bias.compose import apply_bias
from cmw_pipeline.bias.partial import candidate_sets, draw_candidates
from cmw_pipeline.config import Plan, load
from cmw_pipeline.config.bias_names import BiasStep, format_bias, parse_bias
from cmw_pipeline.config.contracts import Biased, Run
from cmw_pipeline.config.datasets import FACTS
from cmw_pipeline.io.manifests import open_stored
from cmw_pipeline.io.tables import read_table
from cmw_pipeline.methods.base import Batch, Problem
from cmw_pipeline.methods.registry import build
from cmw_pipeline.runtime.signals import StopRequest
from cmw_pipeline.stages import download, inject, metaset, train
from cmw_pipeline.stages.base import make
from cmw_pipeline.training.loop import train as train_loop
from cmw_pipeline.types import TEST
from cmw_pipeline.types import TRAIN as SPLIT_TRAIN
from tests.support.tiny import CLASSES, TRAIN, loss_of, options, state, task

LABELS = np.repeat(np.arange(10, dtype=np.int16), 2000)


# --- candidate sets


@pytest.mark.parametrize("rate", [0.0, 0.03, 0.3, 0.7, 1.0])
def test_the_law_of_the_sets(rate):
    """The label is always in; each other class with probability q, plus its share of the lone sets."""
    sets = candidate_sets(LABELS, rate, 10, np.random.default_rng(0))
    rows = np.arange(len(LABELS))
    assert sets[rows, LABELS].all()
    assert sets.sum(axis=1).min() == (10 if rate == 1 else 2)
    others = sets.copy()
    others[rows, LABELS] = False
    expected = rate + (1 - rate) ** 9 / 9
    sigma = math.sqrt(expected * (1 - expected) / len(LABELS))
    for step in range(1, 10):
        assert abs(others[rows, (LABELS + step) % 10].mean() - expected) <= 5 * sigma
    singles = (others.sum(axis=1) == 1).mean()
    wanted = 9 * rate * (1 - rate) ** 8 + (1 - rate) ** 9
    assert abs(singles - wanted) <= 5 * math.sqrt(wanted * (1 - wanted) / len(LABELS)) + 1e-12


def test_classes_join_independently_of_each_other():
    sets = candidate_sets(np.zeros(40_000, dtype=np.int16), 0.5, 10, np.random.default_rng(1))[:, 1:]
    correlation = np.corrcoef(sets.T) - np.eye(9)
    assert np.abs(correlation).max() < 5 / math.sqrt(40_000)


def test_the_drawn_label_tells_nothing_about_which_candidate_is_right():
    sets = candidate_sets(LABELS, 0.3, 10, np.random.default_rng(2))
    drawn = draw_candidates(sets, np.random.default_rng(3))
    assert drawn.dtype == np.int16
    assert sets[np.arange(len(drawn)), drawn].all()
    sizes = sets.sum(axis=1)
    for size in (2, 3, 4):
        right = (drawn == LABELS)[sizes == size]
        sigma = math.sqrt((size - 1) / size**2 / len(right))
        assert abs(right.mean() - 1 / size) <= 5 * sigma


@given(st.integers(0, 2**31 - 1), st.floats(0, 1), st.integers(2, 5))
@settings(max_examples=50)
def test_any_set_holds_its_label_and_another(seed, rate, num_classes):
    labels = np.arange(20, dtype=np.int16) % num_classes
    sets = candidate_sets(labels, rate, num_classes, np.random.default_rng(seed))
    assert sets[np.arange(20), labels].all()
    assert sets.sum(axis=1).min() >= 2


# --- the name


@pytest.mark.parametrize(
    ("name", "steps"),
    [
        ("partial-0.3", (BiasStep("partial", 0.3),)),
        ("lt-10+sym-0.2+partial-0.1", (BiasStep("lt", 10.0), BiasStep("sym", 0.2), BiasStep("partial", 0.1))),
    ],
)
def test_names(name, steps):
    assert parse_bias(name) == steps
    assert format_bias(steps) == name


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("partial-0.3+sym-0.2", "partial and few labels go last"),
        ("partial-0.3+labels-40", "partial and few labels go last"),
        ("partial-1.5", r"must lie in \[0, 1\]"),
        ("other:partial-0.3", "partial has no variant 'other'"),
        ("partial-0.30", "write it as 'partial-0.3'"),
    ],
)
def test_wrong_names(name, message):
    with pytest.raises(ValueError, match=message):
        parse_bias(name)


def test_hidden_is_the_label_that_the_steps_before_left():
    clean = LABELS[::40]
    facts, steps = FACTS["cifar10"], parse_bias("sym-0.5+partial-0.2")
    noisy = apply_bias(clean, parse_bias("sym-0.5"), facts, 1)
    assert noisy.candidates is None
    biased, again, other = (apply_bias(clean, steps, facts, seed) for seed in (1, 1, 2))
    assert biased.kept.all()
    rows = np.arange(len(clean))
    assert biased.candidates[rows, noisy.labels].all()
    assert not biased.candidates[rows, clean].all()
    assert biased.candidates[rows, biased.labels].all()
    assert (biased.labels != noisy.labels).any()
    assert (again.candidates == biased.candidates).all()
    assert (other.candidates != biased.candidates).any()


# --- PRODEN


def partial_problem(candidates):
    labels = torch.tensor([0, 1, 2])
    return Problem(3, labels, candidates=candidates)


def test_proden_by_hand():
    """Two passes: the first trains on uniform targets, the second on the first pass's prediction."""
    candidates = torch.tensor([[True, True, False], [False, True, True], [True, True, True]])
    method = build(options("proden"), partial_problem(candidates), 0)
    batch = Batch(torch.empty(0), torch.tensor([1, 0]), torch.tensor([1, 0]))
    logits = torch.tensor([[0.0, 1.0, 3.0], [2.0, 0.5, 9.0]])
    p = logits.softmax(1)
    method.observe(logits, batch)
    first = -(0.5 * p[0, 1].log() + 0.5 * p[0, 2].log() + 0.5 * p[1, 0].log() + 0.5 * p[1, 1].log()) / 2
    torch.testing.assert_close(loss_of(method, logits, batch), first)
    torch.testing.assert_close(loss_of(method, logits, batch), first)
    moved = torch.tensor(
        [
            [p[1, 0] / (p[1, 0] + p[1, 1]), p[1, 1] / (p[1, 0] + p[1, 1]), 0],
            [0, p[0, 1] / (p[0, 1] + p[0, 2]), p[0, 2] / (p[0, 1] + p[0, 2])],
            [1 / 3, 1 / 3, 1 / 3],
        ]
    )
    torch.testing.assert_close(method.targets, moved)
    method.observe(-logits, batch)
    later = -(moved[[1, 0]] * (-logits).log_softmax(1)).sum(1).mean()
    torch.testing.assert_close(loss_of(method, -logits, batch), later)


def test_proden_with_one_candidate_each_is_erm(tmp_path):
    finals = []
    for kind in ("erm", "proden"):
        run = task(kind)
        object.__setattr__(run.problem, "candidates", None)
        final = state(run, kind)
        train_loop(run, final, StopRequest(), tmp_path / kind)
        finals.append(final.model.state_dict())
    for name, tensor in finals[0].items():
        torch.testing.assert_close(finals[1][name], tensor)


def test_all_classes_as_candidates_give_the_whole_prediction():
    method = build(options("proden"), partial_problem(torch.ones(3, 3, dtype=torch.bool)), 0)
    logits = torch.randn(3, 3)
    method.observe(logits, Batch(torch.empty(0), torch.arange(3), torch.arange(3)))
    torch.testing.assert_close(method.targets, logits.softmax(1))


def test_labels_from_a_first_run_stay_among_the_candidates():
    candidates = torch.tensor([[True, True, False], [False, True, True], [True, True, True]])
    logits = torch.tensor([[0.0, 1.0, 5.0], [9.0, 2.0, 3.0], [1.0, 0.0, 0.5]])
    found = Problem(3, torch.tensor([0, 1, 2]), candidates=candidates).relabelled(logits)
    assert found.labels.tolist() == [1, 2, 0]
    assert found.labelled.all()
    assert found.class_counts.tolist() == [1, 1, 1]
    assert Problem(3, torch.tensor([0, 1, 2])).relabelled(logits).labels.tolist() == [0, 1, 2]


def test_the_tiny_task_has_candidates():
    candidates = task("proden").problem.candidates
    assert candidates.shape == (TRAIN, CLASSES)
    assert candidates.sum(dim=1).float().mean() > 1.2


# --- the stages

PARAMS = """
build: [tiny]
seeds: [0]
bias_seed: 1
datasets: {digits: {source: digits}}
biases: {tiny: [partial-0.3]}
methods:
  erm: {kind: erm, label: ERM}
  proden: {kind: proden, label: PRODEN}
  both:
    kind: erm
    label: Both
    labels_from: {method: proden}
    weighting: {kind: cmw-net, meta_set: lowest-10, meta_every: 2, start_epoch: 1, normalisation: sum}
recipes:
  quick:
    network: {name: small-cnn, width: 8}
    optimizer: {lr: 0.1}
    epochs: 4
    batch_size: 50
tables:
  tiny: {title: Tiny, grid: [{dataset: digits, biases: tiny, methods: [erm, proden, both], recipe: quick}]}
"""
BIASED = "digits/partial-0.3"


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    root = tmp_path_factory.mktemp("partial")
    (root / "params.yaml").write_text(PARAMS)
    plan = Plan(load(root / "params.yaml"))
    make(plan.download("digits"), download.run, root)
    make(plan.inject(BIASED), inject.run, root)
    make(plan.metaset(f"{BIASED}/lowest-10"), metaset.run, root)
    for method in ("proden", "both"):
        artefact = plan.train(f"{BIASED}/{method}/quick/seed0")
        make(artefact, lambda job: train.run(job, torch.device("cpu"), StopRequest()), root)
    return root, plan


def test_the_table_carries_the_candidates_and_no_clean_label(project):
    root, plan = project
    biased = open_stored(root / plan.inject(BIASED).path)
    table = read_table(biased.path / "labels.parquet", Biased.LABELS.columns)
    sets = np.load(biased.path / Biased.CANDIDATES)
    trained = (table["split"] == SPLIT_TRAIN).to_numpy()
    rows = np.arange(len(table))
    assert sets.shape == (len(table), 10)
    assert sets[rows, table["clean_label"]][trained].all()
    assert sets[rows, table["label"]][trained].all()
    assert not sets[~trained].any()
    right = (table["label"] == table["clean_label"])[trained].mean()
    assert right == pytest.approx((1 / sets[trained].sum(axis=1)).mean(), abs=0.06)
    test = table[table["split"] == TEST]
    assert (test["label"] == test["clean_label"]).all()
    assert biased.manifest["notes"]["candidates"] == pytest.approx(sets[trained].sum(axis=1).mean())


def test_other_biases_have_no_candidates(project):
    root, plan = project
    make(plan.inject("digits/sym-0.2"), inject.run, root)
    path = root / plan.inject("digits/sym-0.2").path
    assert sorted(p.name for p in path.iterdir()) == ["labels.parquet", "manifest.json"]
    assert not (path / Biased.CANDIDATES).exists()


def test_cmw_net_trains_on_what_proden_says(project):
    """The labels that the second stage was given are the first one's choice, and better than a draw."""
    root, plan = project
    table = read_table(root / plan.inject(BIASED).path / "labels.parquet", Biased.LABELS.columns)
    sets = np.load(root / plan.inject(BIASED).path / Biased.CANDIDATES)
    second = read_table(
        root / plan.train(f"{BIASED}/both/quick/seed0").path / Run.SAMPLES, Run.SAMPLES.columns
    )
    seen = second.merge(table, on="index", suffixes=("", "_drawn"))
    assert sets[seen["index"], seen["label"]].all()
    right = (seen["label"] == seen["clean_label"]).mean()
    drawn = (seen["label_drawn"] == seen["clean_label"]).mean()
    assert right > drawn + 0.2


# --- other losses of candidate sets


def problem_of(sets):
    candidates = torch.tensor(sets)
    return Problem(candidates.shape[1], candidates.int().argmax(dim=1), candidates=candidates)


def losses_of(kind, sets, logits, passes=1, **changes):
    """The losses of a method in its last of so many passes over the same logits."""
    method = build(options(kind, **changes), problem_of(sets), seed=0)
    batch = Batch(torch.zeros(len(logits), 1, 8, 8), method_labels(sets), torch.arange(len(logits)))
    for _ in range(passes):
        method.observe(logits, batch)
    return method.losses(logits, batch), method


def method_labels(sets):
    return torch.tensor(sets).int().argmax(dim=1)


ALONE = [[False, True, False, False], [True, False, False, False]]
SOME = [[True, True, False, False], [False, True, True, True]]
EVERY = [[True] * 4] * 2
LOGITS = torch.tensor([[0.5, -1.0, 2.0, 0.1], [-1.0, -2.0, -0.5, 3.0]])


@pytest.mark.parametrize(("kind", "passes"), [("cc", 1), ("cavl", 1), ("cavl", 2)])
def test_a_lone_candidate_is_a_label(kind, passes):
    found, _ = losses_of(kind, ALONE, LOGITS, passes)
    torch.testing.assert_close(
        found, torch.nn.functional.cross_entropy(LOGITS, method_labels(ALONE), reduction="none")
    )


def test_cc_is_the_log_probability_of_the_candidates():
    found, _ = losses_of("cc", SOME, LOGITS)
    p = LOGITS.softmax(dim=1)
    torch.testing.assert_close(found, -torch.stack([p[0, :2].sum(), p[1, 1:].sum()]).log())
    torch.testing.assert_close(losses_of("cc", EVERY, LOGITS)[0], torch.zeros(2), rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", ["cc", "cavl"])
def test_which_other_class_has_which_logit_makes_no_difference(kind):
    swapped = LOGITS.clone()
    swapped[0, [2, 3]] = LOGITS[0, [3, 2]]
    torch.testing.assert_close(losses_of(kind, SOME, LOGITS, 2)[0], losses_of(kind, SOME, swapped, 2)[0])


def test_cavl_starts_even_and_then_trusts_the_candidate_of_the_largest_activation_value():
    first, _ = losses_of("cavl", SOME, LOGITS, 1)
    log_p = LOGITS.log_softmax(dim=1)
    torch.testing.assert_close(first, -torch.stack([log_p[0, :2].mean(), log_p[1, 1:].mean()]))
    second, _ = losses_of("cavl", SOME, LOGITS, 2)
    torch.testing.assert_close(second, -torch.stack([log_p[0, 0], log_p[1, 3]]))


def test_cavl_never_chooses_another_class_where_all_candidates_have_negative_logits():
    logits = torch.tensor([[-1.0, -2.0, 0.5]])
    _, method = losses_of("cavl", [[True, True, False]], logits, 1)
    assert method.targets.tolist() == [[1.0, 0.0, 0.0]]


def test_lws_weighs_the_classes_on_either_side_by_their_probabilities():
    first, method = losses_of("lws", SOME, LOGITS, 1, beta=2.0)
    allowed = torch.tensor(SOME)
    sides = torch.where(allowed, torch.sigmoid(-LOGITS), 2 * torch.sigmoid(LOGITS))
    torch.testing.assert_close(first, sides.mean(dim=1))
    for side in (allowed, ~allowed):
        torch.testing.assert_close((method.class_weights * side).sum(dim=1), torch.ones(2))
    p = LOGITS.softmax(dim=1)
    torch.testing.assert_close(method.class_weights[0, 0], p[0, 0] / p[0, :2].sum())
    second, _ = losses_of("lws", SOME, LOGITS, 2, beta=2.0)
    torch.testing.assert_close(second, (method.class_weights * sides).sum(dim=1))


def test_lws_without_other_classes_has_candidates_alone():
    found, method = losses_of("lws", EVERY, LOGITS, 2)
    torch.testing.assert_close(found, (LOGITS.softmax(dim=1) * torch.sigmoid(-LOGITS)).sum(dim=1))
    assert torch.isfinite(method.class_weights).all()


def test_without_a_known_label_classes_are_as_large_as_their_candidates_say():
    sets = torch.tensor([[1, 1, 0], [1, 1, 0], [1, 0, 1], [1, 0, 1], [1, 1, 1], [1, 1, 1]]).bool()
    drawn = torch.tensor([0, 1, 2, 2, 1, 0])
    assert Problem(3, drawn, candidates=sets).class_counts.tolist() == [3, 2, 2]  # 2 2/3, 1 2/3, 1 2/3
    sets[0] = torch.tensor([False, True, False])
    drawn[0] = 1
    assert Problem(3, drawn, candidates=sets).class_counts.tolist() == [0, 1, 0]
