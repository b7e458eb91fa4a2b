"""Selective classification: the metrics against brute force, the methods by hand, the scores of a run."""

import itertools
import math

import numpy as np
import pytest
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits
from torch import nn

from cmw_pipeline.config import Plan, load
from cmw_pipeline.config.contracts import Biased, Run
from cmw_pipeline.config.schema import Network
from cmw_pipeline.errors import NumericsError
from cmw_pipeline.io.tables import read_table
from cmw_pipeline.meta.tangent import Forward
from cmw_pipeline.methods.base import Batch, Problem
from cmw_pipeline.methods.registry import build
from cmw_pipeline.metrics.selective import COVERAGES, aurc, risk_coverage, selective_error
from cmw_pipeline.models import registry as models
from cmw_pipeline.models.heads import AbstainHead, SelectHead
from cmw_pipeline.runtime.signals import StopRequest
from cmw_pipeline.stages import download, inject, train
from cmw_pipeline.stages.base import make
from cmw_pipeline.training.evaluate import dropout_variance, predict
from cmw_pipeline.types import TEST
from tests.support.tiny import loss_of, options, state, task

# --- metrics


def curve_by_definition(wrong, confidence):
    """For each n: the error of the n surest; every order of equals counts alike."""
    curves = []
    for order in itertools.permutations(range(len(wrong))):
        values = [confidence[i] for i in order]
        if values == sorted(values, reverse=True):
            hits = [wrong[i] for i in order]
            curves.append([100 * sum(hits[:n]) / n for n in range(1, len(hits) + 1)])
    return np.mean(curves, axis=0)


samples = st.lists(st.tuples(st.booleans(), st.sampled_from([0.1, 0.5, 0.7, 0.9])), min_size=1, max_size=6)


@given(samples)
@settings(max_examples=60)
def test_the_curve_is_what_its_definition_says(pairs):
    wrong, confidence = [np.array(column) for column in zip(*pairs, strict=True)]
    expected = curve_by_definition(wrong.tolist(), confidence.tolist())
    np.testing.assert_allclose(risk_coverage(wrong, confidence), expected, atol=1e-9)
    assert aurc(wrong, confidence) == pytest.approx(expected.mean())


@given(samples, st.randoms())
@settings(max_examples=40)
def test_only_the_order_of_confidences_matters_and_no_order_of_samples(pairs, random):
    wrong, confidence = [np.array(column) for column in zip(*pairs, strict=True)]
    order = list(range(len(pairs)))
    random.shuffle(order)
    same = risk_coverage(wrong[order], np.exp(5 * confidence[order]) - 7)
    np.testing.assert_allclose(same, risk_coverage(wrong, confidence), atol=1e-9)


def test_a_perfect_score_has_no_risk_until_it_must_and_a_useless_one_the_error_everywhere():
    wrong = np.arange(100) >= 80
    perfect = risk_coverage(wrong, -np.arange(100.0))
    assert (perfect[:80] == 0).all()
    assert perfect[-1] == 20
    expected = sum((n - 80) / n for n in range(81, 101))
    assert aurc(wrong, -np.arange(100.0)) == pytest.approx(expected)
    np.testing.assert_allclose(risk_coverage(wrong, np.zeros(100)), 20.0)
    assert aurc(wrong, np.arange(100.0)) > 50


def test_the_error_at_a_coverage_counts_whole_samples():
    wrong = np.array([False, False, True, False, True, False, True, True, False, True])
    sure = -np.arange(10.0)
    assert selective_error(wrong, sure, 1.0) == 50
    assert selective_error(wrong, sure, 0.7) == pytest.approx(100 * 3 / 7)
    assert selective_error(wrong, sure, 0.61) == pytest.approx(100 * 3 / 7)  # seven, not six
    assert selective_error(wrong, sure, 0.1) == 0
    assert [round(c * 100) for c in COVERAGES] == [100, 95, 90, 85, 80, 75, 70]


@pytest.mark.parametrize("coverage", [0.0, 1.1, -0.5, math.nan])
def test_other_coverages_are_refused(coverage):
    with pytest.raises(ValueError, match="must lie in"):
        selective_error(np.array([True]), np.array([0.5]), coverage)


def test_wrong_input_is_refused():
    with pytest.raises(ValueError, match="expected"):
        risk_coverage(np.array([True, False]), np.array([0.5]))
    with pytest.raises(ValueError, match="N > 0"):
        risk_coverage(np.array([], dtype=bool), np.array([]))
    with pytest.raises(NumericsError, match="1 of 2"):
        risk_coverage(np.array([True, False]), np.array([0.5, math.nan]))


# --- the heads


def test_relative_to_abstaining_nothing_is_lost():
    head = AbstainHead(nn.Linear(6, 4)).double()
    features = torch.randn(3, 6, dtype=torch.float64)
    whole = head(features).softmax(1)
    z = head.eval()(features)
    assert z.shape == (3, 4)
    torch.testing.assert_close(z.softmax(1), whole[:, :4] / (1 - whole[:, 4:]))
    torch.testing.assert_close(z.logsumexp(1), ((1 - whole[:, 4]) / whole[:, 4]).log())


def test_the_head_that_selects_keeps_prediction_and_selection_apart():
    head = SelectHead(nn.Linear(6, 4)).double()
    features = torch.randn(5, 6, dtype=torch.float64)
    trained = head(features)
    assert trained.shape == (5, 9)
    z = head.eval()(features)
    torch.testing.assert_close(z.softmax(1), trained[:, :4].softmax(1))  # the prediction has no batch norm
    torch.testing.assert_close(z.logsumexp(1), head.selection(head.units(features) * 0.1)[:, 0])


# --- the network


def test_vgg16_has_torchvisions_convolutions_and_one_hidden_layer():
    ours = models.build(Network(name="vgg16-bn"), 3, 10, 0)
    theirs = torchvision.models.vgg16_bn()
    shapes = [[p.shape for p in m.features.parameters() if p.ndim == 4] for m in (ours, theirs)]
    assert shapes[0] == shapes[1]
    features = sum(p.numel() for p in ours.features.parameters())
    assert features == sum(p.numel() for p in theirs.features.parameters())
    total = sum(p.numel() for p in ours.parameters())
    assert total == features + (512 * 512 + 512) + 2 * 512 + (512 * 10 + 10)


def test_vgg16_ends_in_one_pixel_and_has_the_published_dropout():
    model = models.build(Network(name="vgg16-bn", width=4), 3, 10, 0).eval()
    assert model.features(torch.randn(2, 3, 32, 32)).shape == (2, 32, 1, 1)
    assert model.features(torch.randn(2, 3, 8, 8)).shape == (2, 32, 1, 1)
    rates = [m.p for m in model.modules() if isinstance(m, (nn.Dropout, nn.Dropout2d))]
    assert rates == [0.3, 0.4, *[0.4] * 6, 0.5, 0.5]


def test_vgg16_drops_whole_channels():
    """As SAT's code does; a channel that stays is larger by the share that goes."""
    first = models.build(Network(name="vgg16-bn", width=64), 3, 10, 0).features[:4].train()
    images = torch.randn(16, 3, 8, 8)
    before, after = first[:3](images), first[:4](images)
    gone = after.eq(0).flatten(2).all(dim=2)
    assert gone.float().mean() == pytest.approx(0.3, abs=0.05)
    torch.testing.assert_close(after[~gone], before[~gone] / 0.7)


def test_a_network_that_drops_channels_alone_has_a_dropout_variance_too():
    run = task("erm")
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Dropout2d(0.5), nn.Flatten(), nn.Linear(144, 3))
    found = dropout_variance(model, run.test_store, 6, run.recipe, passes=20)
    assert bool((found > 0).all())


def test_the_small_vgg_is_the_beginning_of_the_large_one():
    small, large = (models.build(Network(name=n, width=4), 1, 10, 0) for n in ("small-vgg", "vgg16-bn"))
    until = len(small.features) - 1  # where the dropout of half comes
    shapes = [[p.shape for p in m.features[:until].parameters()] for m in (small, large)]
    assert shapes[0] == shapes[1]
    assert [str(m) for m in small.features[:until]] == [str(m) for m in large.features[:until]]


@pytest.mark.parametrize("name", ["vgg16-bn", "small-vgg"])
def test_an_untrained_vgg_is_undecided(name):
    """Logits of several units in the first step would drown what little the gradient says behind dropout."""
    model = models.build(Network(name=name, width=16), 1, 10, 0).train()
    loss = nn.functional.cross_entropy(model(torch.randn(64, 1, 8, 8)), torch.arange(64) % 10)
    assert loss.item() == pytest.approx(math.log(10), abs=0.1)


def test_the_small_vgg_learns_digits_under_dropout():
    images, labels = load_digits(return_X_y=True)
    x = torch.tensor(images, dtype=torch.float32).view(-1, 1, 8, 8) / 16
    y = torch.tensor(labels)
    model = models.build(Network(name="small-vgg", width=16), 1, 10, 0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    torch.manual_seed(0)
    for step in range(150):
        rows = torch.arange(100 * step, 100 * (step + 1)) % 1400
        loss = nn.functional.cross_entropy(model.train()(x[rows]), y[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        hits = model.eval()(x[1400:]).argmax(1) == y[1400:]
    assert hits.float().mean() > 0.8


def test_the_tangent_knows_every_operation_of_vgg16():
    torch.manual_seed(0)
    model = models.build(Network(name="vgg16-bn", width=4), 1, 4, 0).train()
    forward = Forward(model, torch.randn(8, 1, 16, 16))
    direction = {name: torch.randn_like(p) for name, p in model.named_parameters()}
    torch.testing.assert_close(forward.replayed(direction), forward.repeated(direction), rtol=2e-3, atol=2e-3)


# --- the methods, by hand

Z = torch.tensor([[1.0, 0.0, -1.0, 0.5], [0.2, 2.0, 0.1, -1.0]])
P = Z.softmax(1)
Y = torch.tensor([2, 1])
BATCH = Batch(torch.empty(0), Y, torch.tensor([1, 0]))


def method(kind, **changes):
    return build(options(kind, **({"start_epoch": 0} | changes)), Problem(3, torch.tensor([1, 2])), 0)


def test_deep_gamblers_by_hand():
    ours = loss_of(method("deep-gamblers", payoff=2.2), Z, BATCH)
    expected = -((P[0, 2] + P[0, 3] / 2.2).log() + (P[1, 1] + P[1, 3] / 2.2).log()) / 2
    torch.testing.assert_close(ours, expected)


def test_a_payoff_without_bound_is_cross_entropy_of_all_outputs():
    ours = loss_of(method("deep-gamblers", payoff=1e30), Z, BATCH)
    torch.testing.assert_close(ours, nn.functional.cross_entropy(Z, Y))


@pytest.mark.parametrize("kind", ["deep-gamblers", "sat-selective"])
def test_before_it_starts_abstaining_plays_no_role(kind):
    waiting = method(kind, start_epoch=3)
    waiting.observe(Z, BATCH)
    moved = Z + torch.tensor([0.0, 0.0, 0.0, 7.0])
    expected = nn.functional.cross_entropy(Z[:, :3], Y)
    torch.testing.assert_close(loss_of(waiting, moved, BATCH), expected)


def test_sat_by_hand():
    """Two passes; the published rule on whole (N, K) targets, of which only the label's entry is read."""
    sat = method("sat-selective", memory=0.9)
    targets = nn.functional.one_hot(torch.tensor([1, 2]), 3).float()
    for z in (Z, 2 * Z):
        sat.observe(z, BATCH)
        targets[BATCH.rows] = 0.9 * targets[BATCH.rows] + 0.1 * z[:, :3].softmax(1)
        trust = targets[BATCH.rows, Y]
        log_p = z.log_softmax(1)
        expected = -(trust * log_p[[0, 1], Y] + (1 - trust) * log_p[:, 3])
        torch.testing.assert_close(loss_of(sat, z, BATCH), expected.mean())


def test_sat_that_remembers_everything_is_cross_entropy_of_all_outputs():
    sat = method("sat-selective", memory=1.0)
    sat.observe(Z, BATCH)
    torch.testing.assert_close(loss_of(sat, Z, BATCH), nn.functional.cross_entropy(Z, Y))


def test_the_entropy_of_sat_is_that_of_the_k_classes_beside_the_weighted_loss():
    plain, ours = method("sat-selective"), method("sat-selective", entropy=0.5)
    p = Z[:, :3].softmax(dim=1)
    entropy = -(p * p.log()).sum(dim=1).mean()
    torch.testing.assert_close(loss_of(ours, Z, BATCH), loss_of(plain, Z, BATCH) + 0.5 * entropy)
    waiting = method("sat-selective", entropy=0.5, start_epoch=1)
    torch.testing.assert_close(loss_of(waiting, Z, BATCH), nn.functional.cross_entropy(Z[:, :3], Y))


def test_selective_net_by_hand():
    selection, auxiliary = torch.tensor([[0.3], [-1.2]]), torch.tensor([[0.0, 1.0, 0.0], [0.5, 0.0, 0.0]])
    logits = torch.cat([Z[:, :3], selection, auxiliary], dim=1)
    g = [1 / (1 + math.exp(-0.3)), 1 / (1 + math.exp(1.2))]
    losses = [-math.log(Z[0, :3].softmax(0)[2]), -math.log(Z[1, :3].softmax(0)[1])]
    third = [-math.log(auxiliary[0].softmax(0)[2]), -math.log(auxiliary[1].softmax(0)[1])]
    risk = (g[0] * losses[0] + g[1] * losses[1]) / sum(g)
    missing = max(0.0, 0.8 - sum(g) / 2)
    assert missing > 0
    expected = 0.5 * (risk + 32 * missing**2) + 0.5 * sum(third) / 2
    assert float(loss_of(method("selective-net", coverage=0.8), logits, BATCH)) == pytest.approx(expected)
    enough = loss_of(method("selective-net", coverage=0.3), logits, BATCH)
    assert float(enough) == pytest.approx(0.5 * risk + 0.5 * sum(third) / 2)


def test_selecting_everything_is_cross_entropy():
    logits = torch.cat([Z[:, :3], torch.full((2, 1), 40.0), Z[:, :3]], dim=1)
    ours = loss_of(method("selective-net", share=1.0), logits, BATCH)
    torch.testing.assert_close(ours, nn.functional.cross_entropy(Z[:, :3], Y))


# --- the same under CMW-Net's weights

PLAIN = ["deep-gamblers", "sat-selective", "selective-net"]


class Told(nn.Module):
    """A weight net that gives what it is told, by group."""

    def __init__(self, values):
        super().__init__()
        self.values = torch.tensor(values)

    def forward(self, losses, groups):
        return self.values[groups]


def weighted(kind, values=(1.0, 1.0, 1.0), normalisation="sum", **changes):
    """Class by class, one group each."""
    ours = method(f"{kind}/cmw-net", weighting={"normalisation": normalisation}, **changes)
    ours.weighting.net = Told(values)
    ours.weighting.groups.copy_(torch.tensor([0, 1, 2]))
    return ours


def outputs(kind):
    return torch.cat([Z, Z[:, :3] / 2], dim=1) if kind == "selective-net" else Z


@pytest.mark.parametrize("normalisation", ["mean", "sum"])
@pytest.mark.parametrize("kind", PLAIN)
def test_weights_of_one_leave_the_method_as_it_is(kind, normalisation):
    ours, plain, z = weighted(kind, normalisation=normalisation), method(kind), outputs(kind)
    for each in (ours, plain):
        each.observe(z, BATCH)
    torch.testing.assert_close(loss_of(ours, z, BATCH), loss_of(plain, z, BATCH))
    torch.testing.assert_close(ours.confidence(z[:, :3]), plain.confidence(z[:, :3]))
    assert ours.facts.head == plain.facts.head


@pytest.mark.parametrize("kind", PLAIN)
def test_weights_count_from_the_start_epoch_on(kind):
    ours, plain, z = (
        weighted(kind, (0.1, 5.0, 0.3), start_epoch=2),
        method(kind, start_epoch=2),
        outputs(kind),
    )
    for epoch in range(3):
        ours.begin_epoch(epoch)
        plain.begin_epoch(epoch)
        same = torch.allclose(loss_of(ours, z, BATCH), loss_of(plain, z, BATCH))
        assert same == (epoch < 2)


@pytest.mark.parametrize("kind", PLAIN[:2])
def test_a_weight_is_that_of_the_given_label(kind):
    plain = method(kind)
    plain.observe(Z, BATCH)
    losses = plain.losses(Z, BATCH)
    mean, scaled = (weighted(kind, (9.0, 0.2, 0.6), normalisation=n) for n in ("mean", "sum"))
    for ours, expected in (
        (mean, 0.6 * losses[0] + 0.2 * losses[1]),
        (scaled, 1.5 * losses[0] + 0.5 * losses[1]),
    ):
        ours.observe(Z, BATCH)
        torch.testing.assert_close(loss_of(ours, Z, BATCH), expected / 2)


def test_selective_net_weighs_both_cross_entropies_and_not_the_coverage():
    z = outputs("selective-net")
    g = z[:, 3].sigmoid()
    first = -z[:, :3].log_softmax(1)[[0, 1], Y]
    second = -z[:, 4:].log_softmax(1)[[0, 1], Y]
    v = torch.tensor([0.6, 0.2])
    expected = 0.5 * ((g * v * first).sum() / g.sum() + 32 * (0.8 - g.mean()).clamp(min=0) ** 2)
    expected = expected + 0.5 * (v * second).mean()
    ours = weighted("selective-net", (9.0, 0.2, 0.6), normalisation="mean", coverage=0.8)
    torch.testing.assert_close(loss_of(ours, z, BATCH), expected)


def test_what_sat_remembers_is_saved_with_the_weights():
    ours = method("sat-selective/cmw-net")
    ours.observe(Z, BATCH)
    assert ours.state_dict()["trust"].tolist() != [1.0, 1.0]


# --- scores


def test_softmax_response_is_every_methods_confidence_unless_it_has_a_better_one():
    logits = torch.tensor([[0.0, 3.0, 1.0], [50.0, 0.0, 0.0], [60.0, 0.0, 0.0]])
    sure = method("erm").confidence(logits)
    torch.testing.assert_close(sure[0], logits[0].double().softmax(0).max())
    assert method("deep-gamblers").confidence(logits)[0] == logits[0].double().logsumexp(0)


def test_dropout_variance_against_every_mask_that_there_is():
    """Two inputs and dropout of one half: four masks of equal probability."""
    run = task("erm")
    features = nn.Sequential(nn.AdaptiveAvgPool2d((1, 2)), nn.Flatten())
    linear = nn.Linear(2, 3)
    model = nn.Sequential(features, nn.Dropout(0.5), linear).train()
    with torch.no_grad():
        linear.weight.mul_(5)
    torch.manual_seed(0)
    found = dropout_variance(model, run.test_store, 6, run.recipe, passes=20_000)
    assert model.training
    x = features(run.test_store.plain(torch.arange(6)))
    masks = torch.tensor(list(itertools.product([0.0, 2.0], repeat=2)))
    with torch.no_grad():
        p = torch.stack([linear(x * mask) for mask in masks]).double().softmax(2)
    torch.testing.assert_close(found, p.var(0, unbiased=False).mean(1), rtol=0.05, atol=1e-6)


def test_without_dropout_there_is_no_variance():
    run = task("erm")
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 4), nn.Dropout(0.0))
    assert dropout_variance(model, run.test_store, 4, run.recipe) is None


def test_batch_norm_stands_still_under_dropout():
    run = task("erm")
    final = state(run, "erm")
    before = {k: v.clone() for k, v in final.model.state_dict().items()}
    logits = predict(final.model, run.test_store, 8, run.recipe)
    assert dropout_variance(final.model, run.test_store, 8, run.recipe, passes=3).shape == (8,)
    assert all(torch.equal(v, before[k]) for k, v in final.model.state_dict().items())
    assert torch.equal(predict(final.model, run.test_store, 8, run.recipe), logits)


# --- a run

PARAMS = """
build: [tiny]
seeds: [0]
bias_seed: 1
datasets: {digits: {source: digits}}
biases: {tiny: [asym-0.4]}
methods:
  erm: {kind: erm, label: ERM}
  selective-net: {kind: selective-net, label: SelectiveNet}
  deep-gamblers: {kind: deep-gamblers, label: Deep Gamblers, start_epoch: 2}
  sat: {kind: sat-selective, label: SAT, start_epoch: 2}
recipes:
  quick: {network: {name: small-cnn, width: 8}, optimizer: {lr: 0.05}, epochs: 8, batch_size: 50}
  dropout: {network: {name: vgg16-bn, width: 2}, optimizer: {lr: 0.05}, epochs: 1, batch_size: 100}
tables:
  tiny: {title: Tiny, grid: [{dataset: digits, biases: tiny, methods: [erm], recipe: quick}]}
"""
BIASED = "digits/asym-0.4"


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    root = tmp_path_factory.mktemp("selective")
    (root / "params.yaml").write_text(PARAMS)
    plan = Plan(load(root / "params.yaml"))
    make(plan.download("digits"), download.run, root)
    make(plan.inject(BIASED), inject.run, root)
    return root, plan


def predictions(project, method, network="quick"):
    root, plan = project
    artefact = plan.train(f"{BIASED}/{method}/{network}/seed0")
    make(artefact, lambda job: train.run(job, torch.device("cpu"), StopRequest()), root)
    return root / artefact.path, read_table(root / artefact.path / Run.PREDICTIONS, Run.PREDICTIONS.columns)


@pytest.mark.parametrize("method", ["erm", "selective-net", "deep-gamblers", "sat"])
def test_what_a_run_is_sure_of_is_right_more_often(project, method):
    """Some digits are often given the label of another: a score must doubt those, on the test set."""
    path, found = predictions(project, method)
    wrong = (found["prediction"] != found["label"]).to_numpy()
    rows = read_table(path / Run.ROWS, Run.ROWS.columns)
    last = rows[(rows["protocol"] == "last") & (rows["metric"] == "accuracy")]["value"].item()
    assert 100 * (1 - wrong.mean()) == pytest.approx(last)
    assert 2 < 100 * wrong.mean() < 60
    for score in ("confidence", "softmax_response"):
        assert aurc(wrong, found[score].to_numpy()) < 0.6 * 100 * wrong.mean()
    assert (found["confidence"] == found["softmax_response"]).all() == (method == "erm")
    assert found["mc_dropout"].isna().all()


def test_every_test_sample_is_there_once(project):
    _, found = predictions(project, "erm")
    root, plan = project
    table = read_table(root / plan.inject(BIASED).path / "labels.parquet", Biased.LABELS.columns)
    test = table[table["split"] == TEST]
    assert (found["index"].to_numpy() == test["index"].to_numpy()).all()
    assert (found["label"].to_numpy() == test["clean_label"].to_numpy()).all()


def test_a_network_with_dropout_has_a_third_score(project):
    _, found = predictions(project, "erm", "dropout")
    assert (found["mc_dropout"] < 0).all()
    assert found["mc_dropout"].nunique() > 100
