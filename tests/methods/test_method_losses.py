"""Losses written out by hand, their limits, and independent implementations of them."""

import copy
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from pydantic import TypeAdapter, ValidationError
from torch.func import functional_call
from torchvision.ops import sigmoid_focal_loss
from torchvision.transforms.v2.functional import rotate

from cmw_pipeline.config.methods import Method as Options
from cmw_pipeline.config.schema import Augment, Network, Optimizer
from cmw_pipeline.data.loader import ImageStore
from cmw_pipeline.meta.lookahead import lookahead_gradient
from cmw_pipeline.meta.tangent import Forward as Pass
from cmw_pipeline.methods.base import Batch, Networks, Problem
from cmw_pipeline.methods.forward import anchor_transition
from cmw_pipeline.methods.parts.losses import (
    focal,
    generalised_cross_entropy,
    ldam,
    sade,
)
from cmw_pipeline.methods.registry import build
from cmw_pipeline.methods.weightings.effective_number import class_balanced_weights
from cmw_pipeline.models import registry as models
from cmw_pipeline.training import optim
from cmw_pipeline.training.epoch_plan import EpochPlan
from cmw_pipeline.training.step import training_step
from tests.support.tiny import LEARNING_PAIRS, loss_of, options

COUNTS = [3, 9, 11, 40]
CLASSES = len(COUNTS)
LABELS = torch.repeat_interleave(torch.arange(CLASSES), torch.tensor(COUNTS))
PROBLEM = Problem(CLASSES, LABELS)
EVEN = Problem(CLASSES, torch.arange(CLASSES).repeat(7))
WEIGHTINGS = ["class-balanced", "l2rw", "mcw", "mw-net", "cmw-net"]
LOSS_KINDS = ["focal", "ldam", "gce", "forward", "sade"]


def method(kind, problem=PROBLEM, **changes):
    if kind == "forward" and problem.first_logits is None:
        problem = replace(problem, first_logits=random_logits(len(problem.labels), seed=9))
    return build(options(kind, **changes), problem, seed=3)


def random_logits(size=12, seed=0, experts=()):
    return 3 * torch.randn(size, *experts, CLASSES, generator=torch.Generator().manual_seed(seed))


def batch(seed=0, size=12, side=8):
    rng = torch.Generator().manual_seed(seed)
    images = torch.randn(size, 1, side, side, generator=rng)
    rows = torch.randperm(len(LABELS), generator=rng)[:size]
    return Batch(images.to(torch.get_default_dtype()), LABELS[rows], rows)


def of(logits, seed=0):
    return logits, batch(seed, len(logits))


# --- before the start


@pytest.mark.parametrize("kind", [*LOSS_KINDS, *(f"erm/{w}" for w in WEIGHTINGS)])
def test_before_its_start_epoch_a_loss_is_plain_mean_cross_entropy(kind):
    waiting = method(kind, start_epoch=2)
    z, data = of(random_logits(experts=(3,) if kind == "sade" else ()))
    plain = sum(F.cross_entropy(part, data.labels) for part in (z.unbind(1) if kind == "sade" else [z]))
    for epoch in range(4):
        waiting.begin_epoch(epoch)
        found = loss_of(waiting, z, data).detach()
        if epoch < 2:
            torch.testing.assert_close(found, plain)
        elif kind != "erm/l2rw":  # without a meta step, its weights are even
            assert abs(float(found - plain)) > 1e-3


# --- focal


def test_focal_written_out():
    z = torch.tensor([[1.0, 0.0, -1.0, 0.5]])
    p = math.exp(1.0) / sum(math.exp(v) for v in (1.0, 0.0, -1.0, 0.5))
    expected = -((1 - p) ** 2) * math.log(p)
    assert focal(2.0, "softmax")(z, torch.tensor([0])).item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0])
def test_sigmoid_focal_is_torchvisions_on_logits_that_start_at_one_in_k(gamma):
    z, data = of(random_logits())
    target = F.one_hot(data.labels, CLASSES).float()
    expected = sigmoid_focal_loss(z - math.log(CLASSES - 1), target, alpha=-1, gamma=gamma).sum(dim=1)
    torch.testing.assert_close(focal(gamma, "sigmoid")(z, data.labels), expected)


def test_focal_without_gamma_is_cross_entropy():
    z, data = of(random_logits())
    expected = F.cross_entropy(z, data.labels, reduction="none")
    torch.testing.assert_close(focal(0.0, "softmax")(z, data.labels), expected)


@pytest.mark.parametrize(
    "loss", [focal(0.5, "softmax"), focal(0.5, "sigmoid"), generalised_cross_entropy(0.7)]
)
def test_certainty_has_finite_slopes(loss):
    z = torch.tensor([[200.0, 0, 0, 0], [200.0, 0, 0, 0]], requires_grad=True)
    losses = loss(z, torch.tensor([0, 1]))  # right and sure, wrong and sure
    (slope,) = torch.autograd.grad(losses.sum(), z)
    assert bool(torch.isfinite(losses).all())
    assert bool(torch.isfinite(slope).all())


# --- class-balanced


def test_class_weights_written_out():
    effective = [(1 - 0.9**n) / (1 - 0.9) for n in COUNTS]
    total = sum(1 / e for e in effective)
    expected = [CLASSES / e / total for e in effective]
    found = class_balanced_weights(torch.tensor(COUNTS), 0.9)
    torch.testing.assert_close(found, torch.tensor(expected))
    assert found.tolist() == sorted(found.tolist(), reverse=True)


@pytest.mark.parametrize("normalisation", ["mean", "sum"])
@pytest.mark.parametrize(("problem", "beta"), [(EVEN, 0.9999), (PROBLEM, 0.0)])
def test_class_balanced_on_even_classes_is_erm(problem, beta, normalisation):
    z, data = of(random_logits())
    balanced = method("erm/class-balanced", problem, weighting={"beta": beta, "normalisation": normalisation})
    torch.testing.assert_close(loss_of(balanced, z, data), F.cross_entropy(z, data.labels))


def test_the_two_normalisers_of_class_balanced():
    z, data = of(random_logits())
    weights = class_balanced_weights(torch.tensor(COUNTS), 0.9999)
    by_mass = F.cross_entropy(z, data.labels, weight=weights)  # PyTorch divides by the sum of weights
    by_size = F.cross_entropy(z, data.labels, weight=weights, reduction="sum") / len(z)
    torch.testing.assert_close(
        loss_of(method("erm/class-balanced", weighting={"normalisation": "sum"}), z, data), by_mass
    )
    torch.testing.assert_close(loss_of(method("erm/class-balanced"), z, data), by_size)
    assert abs(float(by_mass - by_size)) > 1e-3


def test_class_balanced_focal_weighs_the_focal_loss():
    z, data = of(random_logits())
    found = loss_of(method("focal/class-balanced", gamma=0.5), z, data)
    weights = class_balanced_weights(torch.tensor(COUNTS), 0.9999)[data.labels]
    torch.testing.assert_close(found, (weights * focal(0.5, "sigmoid")(z, data.labels)).mean())


# --- LDAM


def margins(largest=0.5):
    return torch.tensor([largest * (n / min(COUNTS)) ** -0.25 for n in COUNTS])


def behind_margins(cosines, labels, largest=0.5):
    return 30 * (cosines - margins(largest)[labels][:, None] * F.one_hot(labels, CLASSES))


def test_ldam_written_out():
    data = batch()
    cosines = torch.rand(12, CLASSES) * 2 - 1
    expected = F.cross_entropy(behind_margins(cosines, data.labels), data.labels)
    torch.testing.assert_close(loss_of(method("ldam"), 30 * cosines, data), expected)
    assert margins().max() == 0.5
    assert method("ldam").facts.head == "cosine"


def test_ldam_without_a_margin_is_cross_entropy():
    z, data = of(random_logits())
    expected = F.cross_entropy(z, data.labels, reduction="none")
    torch.testing.assert_close(ldam(torch.tensor(COUNTS), 0.0)(z, data.labels), expected)


def test_drw_brings_the_class_weights_late():
    data, cosines = batch(), torch.rand(12, CLASSES) * 2 - 1
    drw = method("ldam/class-balanced", weighting={"start_epoch": 2, "normalisation": "sum"})
    weights = class_balanced_weights(torch.tensor(COUNTS), 0.9999)
    shifted = behind_margins(cosines, data.labels)
    early, late = F.cross_entropy(shifted, data.labels), F.cross_entropy(shifted, data.labels, weight=weights)
    for epoch, expected in enumerate([early, early, late, late]):
        drw.begin_epoch(epoch)
        torch.testing.assert_close(loss_of(drw, 30 * cosines, data), expected)
        expected_weights = weights[data.labels] if epoch >= 2 else torch.ones(12)
        torch.testing.assert_close(drw.weights(torch.zeros(12), data), expected_weights)


# --- GCE


def test_gce_lies_between_cross_entropy_and_absolute_error():
    z, data = of(random_logits())
    p = z.softmax(dim=1).gather(1, data.labels[:, None])[:, 0]
    for q, expected in ((1.0, 1 - p), (0.7, (1 - p**0.7) / 0.7)):
        torch.testing.assert_close(generalised_cross_entropy(q)(z, data.labels), expected)
    ce = F.cross_entropy(z, data.labels, reduction="none")
    torch.testing.assert_close(generalised_cross_entropy(1e-4)(z, data.labels), ce, rtol=1e-3, atol=1e-3)


def scanning(logits):
    asked = []

    def scan(network):
        asked.append(network)
        return logits

    return Networks(torch.nn.Identity(), None, scan), asked


def test_truncated_gce_leaves_out_improbable_labels_from_the_choice_on():
    truncated = method("gce", threshold=0.5, prune_from=3, prune_every=2)
    scanned = random_logits(len(LABELS), seed=4)
    networks, asked = scanning(scanned)
    kept = scanned.softmax(dim=1)[torch.arange(len(LABELS)), LABELS] > 0.5
    assert 0 < int(kept.sum()) < len(kept)
    z, data = of(random_logits())
    losses = generalised_cross_entropy(0.7)(z, data.labels)
    due = {3: 1, 4: 1, 5: 2}
    for epoch in range(6):
        truncated.begin_epoch(epoch)
        truncated.between_epochs(epoch, networks)
        assert len(asked) == due.get(epoch, 0)
        expected = (kept[data.rows] * losses).mean() if epoch >= 3 else losses.mean()
        torch.testing.assert_close(loss_of(truncated, z, data), expected)
    assert all(network is networks.student for network in asked)


def test_plain_gce_asks_for_no_scan():
    networks, asked = scanning(random_logits(len(LABELS)))
    method("gce", prune_from=0).between_epochs(0, networks)
    assert asked == []


# --- forward correction


def test_forward_with_an_identity_is_cross_entropy():
    corrected = method("forward")
    corrected.transition.copy_(torch.eye(CLASSES))
    z, data = of(random_logits())
    torch.testing.assert_close(loss_of(corrected, z, data), F.cross_entropy(z, data.labels))


def test_forward_is_the_loss_of_the_prediction_behind_the_noise():
    corrected = method("forward")
    transition = torch.tensor([[0.6, 0.4, 0, 0], [0, 1, 0, 0], [0.1, 0.1, 0.7, 0.1], [0, 0, 0.5, 0.5]])
    corrected.transition.copy_(transition)
    z, data = of(random_logits())
    given = z.softmax(dim=1) @ transition
    torch.testing.assert_close(loss_of(corrected, z, data), F.nll_loss(given.log(), data.labels))
    sure = torch.full((1, CLASSES), -50.0).index_fill(1, torch.tensor([0]), 50.0)  # truly class 0
    seen = corrected.losses(sure, Batch(sure, torch.tensor([1]), torch.tensor([0])))
    assert seen.item() == pytest.approx(-math.log(0.4), rel=1e-5)


def test_the_anchors_of_a_planted_mixture_are_its_transitions():
    """Each sample's prediction is xᵀT with x a mixture of classes; one sample of each class is pure."""
    rng = np.random.default_rng(1)
    transition = 0.5 * np.eye(CLASSES) + 0.5 * rng.dirichlet(np.ones(CLASSES), CLASSES)
    mixtures = np.concatenate([rng.dirichlet(np.ones(CLASSES), 500), np.eye(CLASSES)])
    found = anchor_transition(torch.from_numpy(mixtures @ transition), None)
    np.testing.assert_allclose(found.numpy(), transition, atol=1e-12)


def published_estimate(probabilities, percentile):
    """Row by row, as the published code goes about it."""
    rows = []
    for k in range(probabilities.shape[1]):
        column = probabilities[:, k].copy()
        if percentile is not None:
            column[column >= np.percentile(column, percentile, method="higher")] = 0.0
        rows.append(probabilities[column.argmax()] / probabilities[column.argmax()].sum())
    return np.array(rows)


@pytest.mark.parametrize("percentile", [97.0, 50.0, None])
def test_the_estimate_sets_outliers_aside_as_the_published_code_does(percentile):
    first = random_logits(301, seed=5).double()
    probabilities = first.softmax(dim=1)
    found = anchor_transition(probabilities, percentile).numpy()
    np.testing.assert_allclose(found, published_estimate(probabilities.numpy(), percentile), rtol=1e-12)
    np.testing.assert_allclose(found.sum(axis=1), 1.0)
    assert np.diag(found).max() < (1.0 if percentile is None else float(probabilities.max()))


def test_forward_takes_its_matrix_from_the_first_run_and_needs_one():
    first = random_logits(len(LABELS), seed=6)
    corrected = method("forward", replace(PROBLEM, first_logits=first))
    expected = published_estimate(first.softmax(dim=1).double().numpy(), 97.0)
    np.testing.assert_allclose(corrected.transition.numpy(), expected, rtol=1e-5)
    with pytest.raises(ValidationError):
        TypeAdapter(Options).validate_python({"kind": "forward", "label": "-"})


# --- SADE


def test_sade_written_out():
    z, data = of(random_logits(experts=(3,)))
    prior = torch.tensor(COUNTS) / sum(COUNTS)
    inverted = prior.flip(0)  # the counts ascend
    expected = (
        F.cross_entropy(z[:, 0], data.labels)
        + F.cross_entropy(z[:, 1] + prior.log(), data.labels)
        + F.cross_entropy(z[:, 2] + prior.log() - 2 * inverted.log(), data.labels)
    )
    torch.testing.assert_close(loss_of(method("sade"), z, data), expected)
    assert method("sade").facts.head == "experts"


def test_the_inverted_prior_reverses_the_ranks_wherever_the_classes_stand():
    counts, reversed_counts = torch.tensor([9, 40, 3, 11]), torch.tensor([11, 3, 40, 9])
    z, data = of(random_logits(experts=(3,)))
    z[:, :2] = 0.0
    prior, inverted = counts / 63, reversed_counts / 63
    third = F.cross_entropy(z[:, 2] + prior.log() - 2 * inverted.log(), data.labels, reduction="none")
    second = F.cross_entropy(prior.log().expand(12, -1), data.labels, reduction="none")
    torch.testing.assert_close(sade(counts)(z, data.labels), math.log(CLASSES) + second + third)


def test_sade_at_an_even_prior_is_three_cross_entropies():
    z, data = of(random_logits(experts=(3,)))
    expected = sum(F.cross_entropy(z[:, expert], data.labels) for expert in range(3))
    torch.testing.assert_close(loss_of(method("sade", EVEN), z, data), expected)


# --- the meta-learned weightings: closed forms and other base losses


@pytest.fixture
def double():
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


def classifier(head="linear"):
    return models.build(Network(name="small-cnn", width=4), 1, CLASSES, 0, head).train()


def at(model, weights, data):
    """Logits with these weights, in training mode; the model's statistics stay."""
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    return functional_call(model, (weights, buffers), (data.images,))


def slopes(value, weights, **kwargs):
    return torch.autograd.grad(value, list(weights.values()), **kwargs)


def agreement(model, data, meta, ahead=None):
    """(B,) ⟨∇ℓ_i, ∇L_meta⟩, one sample after the other; L_meta at the weights ``ahead``."""
    weights = dict(model.named_parameters())
    ahead = weights if ahead is None else ahead
    direction = slopes(F.cross_entropy(at(model, ahead, meta), meta.labels), ahead)
    losses = F.cross_entropy(at(model, weights, data), data.labels, reduction="none")
    each = [slopes(loss, weights, retain_graph=True) for loss in losses]
    return torch.stack([sum((g * d).sum() for g, d in zip(one, direction, strict=True)) for one in each])


def learn(weighting, model, data, meta, lr):
    gradient = lookahead_gradient(
        Pass(model, data.images),
        lambda z: weighting.virtual_objective(z, data),
        meta.images,
        lambda z: weighting.meta_objective(z, meta),
        lr,
        weighting.theta(data),
    )
    weighting.learn(gradient)
    return gradient


@pytest.mark.parametrize("lr", [0.3, 0.001])
@pytest.mark.usefixtures("double")
def test_l2rw_weighs_by_the_agreement_of_gradients_whatever_the_rate(lr):
    model, weighting, data, meta = classifier(), method("erm/l2rw"), batch(1), batch(2)
    useful = agreement(model, data, meta).clamp(min=0)
    assert 0 < int((useful > 0).sum()) < len(useful)
    expected = useful / useful.sum()
    learn(weighting, model, data, meta, lr)
    torch.testing.assert_close(weighting.weighting.useful, expected, rtol=1e-9, atol=1e-12)
    z = random_logits().double()
    losses = F.cross_entropy(z, data.labels, reduction="none")
    torch.testing.assert_close(loss_of(weighting, z, data), (expected * losses).sum())
    torch.testing.assert_close(loss_of(weighting, z, data), losses.mean())  # the next batch starts anew


def test_l2rw_leaves_a_batch_of_no_use_alone():
    weighting, (z, data) = method("erm/l2rw"), of(random_logits())
    weighting.learn([torch.ones(12)])
    assert loss_of(weighting, z, data).item() == 0.0


@pytest.mark.usefixtures("double")
def test_mcw_corrects_by_a_hundredth_of_rate_times_agreement():
    lr = 0.2
    model, weighting, data, meta = classifier(), method("erm/mcw"), batch(1), batch(2)
    weights = dict(model.named_parameters())
    a = class_balanced_weights(torch.tensor(COUNTS), 0.9999)[data.labels]
    losses = F.cross_entropy(at(model, weights, data), data.labels, reduction="none")
    moves = slopes((a * losses).sum(), weights)
    ahead = {name: w - lr * g for (name, w), g in zip(weights.items(), moves, strict=True)}
    expected = 0.01 * lr * agreement(model, data, meta, ahead)
    learn(weighting, model, data, meta, lr)
    torch.testing.assert_close(weighting.weighting.correction, expected, rtol=1e-8, atol=1e-12)
    z = random_logits().double()
    losses = F.cross_entropy(z, data.labels, reduction="none")
    torch.testing.assert_close(loss_of(weighting, z, data), ((a + expected) * losses).mean())
    torch.testing.assert_close(loss_of(weighting, z, data), (a * losses).mean())  # used once


def test_a_sample_that_is_in_the_meta_set_gains_and_its_opposite_loses():
    """The sign: a step that trusts the meta sample more lowers the meta loss."""
    model, data = classifier(), batch(1)
    wrong = replace(data, labels=data.labels.index_put((torch.tensor(0),), (data.labels[0] + 1) % CLASSES))
    for told in (data, wrong):
        weighting = method("erm/mcw")
        learn(weighting, model, told, data, 1e-3)
        assert (float(weighting.weighting.correction[0]) > 0) == (told is data)


@pytest.mark.parametrize("kind", ["erm", "ldam", "sade"])
def test_the_weighted_objective_of_a_loss_and_its_head(kind):
    weighting = method(f"{kind}/mw-net", start_epoch=1, weighting={"normalisation": "sum"})
    z, data = of(random_logits(experts=(3,) if kind == "sade" else ()))
    parts = z.unbind(1) if kind == "sade" else [z]
    early = sum(F.cross_entropy(part, data.labels, reduction="none") for part in parts)
    written_out = {"ldam": ldam, "sade": sade}.get(kind)
    loss = early if written_out is None else written_out(torch.tensor(COUNTS))(z, data.labels)
    weighting.begin_epoch(0)
    torch.testing.assert_close(loss_of(weighting, z, data), early.mean())
    weighting.begin_epoch(1)
    v = weighting.weighting.net(loss, torch.zeros_like(data.labels)).detach()
    torch.testing.assert_close(loss_of(weighting, z, data), (v * loss).sum() / v.sum())


# --- all of them train


@pytest.mark.parametrize(
    ("kind", "changes"),
    [(kind, {}) for kind in LOSS_KINDS]
    + [("focal", {"form": "softmax"}), ("focal/class-balanced", {"gamma": 0.5})]
    + [(f"{kind}/{weighting}", {}) for kind in ("erm", "ldam", "sade") for weighting in ("l2rw", "mcw")]
    + [(f"{kind}/cmw-net", {"weighting": {"weight_net": {"lr": 1e-3}}}) for kind in ("erm", "ldam", "sade")],
)
def test_every_loss_trains_a_network(kind, changes):
    trained, data = method(kind, **changes), batch(3, 24)
    model = classifier(trained.facts.head)
    optimizer = optim.Sgd(model.parameters(), Optimizer(lr=0.05))
    meta = data if kind in LEARNING_PAIRS else None
    before = copy.deepcopy(model)
    for _ in range(40):
        training_step(model, trained, optimizer, data, meta)
    accuracy = []
    for network in (before.eval(), model.eval()):
        right = network(data.images).argmax(dim=1) == data.labels
        accuracy.append(float(right.float().mean()))
    assert accuracy[1] >= 0.8 > accuracy[0] + 0.2


# --- SADE's augmentation


@pytest.mark.parametrize("shape", [(8, 8), (7, 10)])
def test_rotation_is_torchvisions(shape):
    images = np.random.default_rng(0).integers(0, 256, (9, *shape, 3)).astype(np.uint8)
    augment = Augment(rotate=40.0, flip=True)
    store = ImageStore.put(images, (0.0,) * 3, (1 / 255,) * 3, augment, torch.device("cpu"))
    plan = EpochPlan.draw(np.arange(9), 9, 3, augment, np.random.default_rng(1), size=shape)
    angles = plan.angle.rad2deg()
    assert -40 <= float(angles.min()) < -20 < 20 < float(angles.max()) <= 40
    for step in range(3):
        draws = plan.batch(step)
        found = store.augmented(draws)
        for picture, row, flip, angle in zip(found, draws.rows, draws.flip, draws.angle, strict=True):
            expected = torch.from_numpy(images[row]).permute(2, 0, 1)
            expected = rotate(expected.flip(2) if flip else expected, float(angle.rad2deg()))
            assert torch.equal(picture, expected.float())


def test_rotation_leaves_the_other_draws_as_they_are():
    def plan(**changes):
        augment = Augment(pad=2, flip=True, cutout=3, **changes)
        return EpochPlan.draw(np.arange(9), 3, 3, augment, np.random.default_rng(1), views=2, size=(8, 8))

    still, turning = plan(), plan(rotate=15.0)
    for name in ("rows", "shift", "flip", "hole"):
        assert torch.equal(getattr(still, name), getattr(turning, name))
    assert still.angle is None
