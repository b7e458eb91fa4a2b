"""Soft labels in bounded memory, and CMW-Net-SL under a frozen function."""

import dataclasses
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cmw_pipeline.meta.optimizers import Sgd
from cmw_pipeline.meta.weight_net import WeightNet
from cmw_pipeline.meta.weighting import WeightingFunction
from cmw_pipeline.methods import registry as methods
from cmw_pipeline.methods.base import Batch, Networks, Problem
from cmw_pipeline.runtime.signals import StopRequest
from cmw_pipeline.runtime.team import SOLO, Team
from cmw_pipeline.training.assemble import share
from cmw_pipeline.training.ema import Teacher
from cmw_pipeline.training.evaluate import _part
from cmw_pipeline.training.loop import train
from cmw_pipeline.training.program import iterate
from tests.support.processes import environment
from tests.support.tiny import CLASSES, TRAIN, loss_of, network, options, recipe, state, task

TESTS = Path(__file__).parents[1]
SL = {"memory": 0.9, "start_epoch": 1, "weighting": {"meta_set": "lowest-2"}}
TRANSFER = {"memory": 0.9, "start_epoch": 1}


def frozen(seed=0):
    torch.manual_seed(seed)
    net = WeightNet(20, 3)
    net.loss_max.fill_(5.0)
    return WeightingFunction(net, np.arange(3), {})


def no_scan(network):
    raise AssertionError


def method(num_classes=6, count=20, **changes):
    labels = torch.arange(count) % num_classes
    return methods.build(options("soft-labels/cmw-net", **changes), Problem(num_classes, labels), seed=0)


# --- the memory


@given(seed=st.integers(0, 1000), top=st.integers(1, 8))
@settings(max_examples=40)
def test_the_largest_entries_are_kept_and_the_rest_is_shared(seed, top):
    kept = method(memory=0.9, memory_top=top)
    soft = torch.from_numpy(np.random.default_rng(seed).dirichlet(np.full(6, 0.3), 4)).float()
    rows = torch.tensor([3, 17, 0, 5])
    kept.memory.remember(rows, soft)
    found = kept.memory.recall(rows)
    torch.testing.assert_close(found.sum(dim=1), torch.ones(4), rtol=0, atol=2e-3)
    assert (found >= 0).all()
    exact = min(top, 6)
    largest = soft.sort(dim=1, descending=True)
    for row in range(4):
        classes = largest.indices[row]
        torch.testing.assert_close(
            found[row, classes[:exact]], soft[row, classes[:exact]], rtol=1e-3, atol=1e-6
        )
        rest = found[row, classes[exact:]]
        if len(rest):
            assert (rest - (1 - soft[row, classes[:exact]].sum()) / len(rest)).abs().max() < 2e-3


def test_it_begins_with_the_given_labels():
    for top in (None, 1, 3, 6, 50):
        kept = method(memory=0.9, memory_top=top)
        expected = torch.nn.functional.one_hot(torch.arange(20) % 6, 6).float()
        assert torch.equal(kept.memory.recall(torch.arange(20)), expected)


def test_other_samples_are_not_touched():
    kept = method(memory=0.9, memory_top=2)
    kept.memory.remember(torch.tensor([4]), torch.full((1, 6), 1 / 6))
    others = torch.tensor([n for n in range(20) if n != 4])
    assert torch.equal(kept.memory.recall(others), torch.nn.functional.one_hot(others % 6, 6).float())


def test_all_of_webvision_fits():
    """2.4 million samples of 1000 classes: 9.6 GB as floats; here a twentieth of them is measured."""
    count, top = 120_000, 10
    kept = methods.build(
        options("soft-labels/cmw-net", memory=0.9, memory_top=top),
        Problem(1000, torch.randint(1000, (count,), generator=torch.Generator().manual_seed(0))),
        seed=0,
    )
    size = sum(buffer.numel() * buffer.element_size() for buffer in kept.buffers())
    assert 20 * size < 100 * 2**20


def trained(kind, changes, folder, weighting=None):
    run = task(kind, recipe=recipe(epochs=4), **changes)
    if weighting is not None:
        run = dataclasses.replace(run, problem=dataclasses.replace(run.problem, weighting=weighting))
    final = state(run, kind, **changes)
    train(run, final, StopRequest(), folder)
    return final


def test_with_all_classes_kept_training_is_that_of_the_dense_memory_but_for_rounding(tmp_path):
    dense = trained("soft-labels/cmw-net", SL, tmp_path / "dense")
    kept = trained("soft-labels/cmw-net", SL | {"memory_top": CLASSES}, tmp_path / "kept")
    for ours, theirs in zip(kept.records, dense.records, strict=True):
        assert ours["train_loss"] == pytest.approx(theirs["train_loss"], rel=2e-3)
    rows = torch.arange(TRAIN)
    torch.testing.assert_close(
        kept.method.memory.recall(rows), dense.method.memory.recall(rows), rtol=0, atol=5e-3
    )


def test_a_memory_of_two_classes_resumes_exactly(tmp_path):
    changes = SL | {"memory_top": 2}
    whole = trained("soft-labels/cmw-net", changes, tmp_path / "whole")
    tensors, numbers = whole.pack()
    again = state(task("soft-labels/cmw-net", **changes), "soft-labels/cmw-net", **changes)
    again.restore(tensors, numbers)
    rows = torch.arange(TRAIN)
    assert torch.equal(again.method.memory.recall(rows), whole.method.memory.recall(rows))


# --- the objective


def entropy(logits, target):
    """(B,) −Σ target log softmax, in plain numbers."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return -(target * log_p).sum(axis=1)


@pytest.mark.parametrize("kind", ["soft-labels/cmw-net", "soft-labels/frozen"])
@pytest.mark.parametrize("permuted", [True, False])
def test_the_objective_is_the_published_formula(kind, permuted):
    """mean λ [v₁ CE(y) + (1 − v₁) CE(z)] + (1 − λ) [v₂ CE(y') + (1 − v₂) CE(z')], ' for the partner's."""
    weighting, rng = frozen().double(), np.random.default_rng(0)
    problem = Problem(3, torch.tensor([0] * 20 + [1] * 10 + [2] * 6), weighting)
    made = methods.build(
        options(kind, partner_weight="permuted" if permuted else "partner-label"), problem, seed=0
    )
    if kind == "soft-labels/cmw-net":
        made.weighting.net = weighting.net
    made.begin_epoch(0)
    logits, labels = 2 * rng.normal(size=(6, 3)), np.array([0, 2, 1, 0, 2, 1])
    soft, partners, lam = rng.dirichlet(np.ones(3), 6), np.array([3, 5, 0, 1, 2, 4]), 0.9
    evidence = {"soft": torch.tensor(soft), "lam": torch.tensor(lam), "partners": torch.tensor(partners)}
    batch = Batch(torch.empty(6), torch.from_numpy(labels), torch.arange(6), evidence=evidence)

    def trusted(losses, of):
        return made.weigh(torch.from_numpy(losses), torch.from_numpy(of)).values.detach().numpy()

    own, partner = entropy(logits, np.eye(3)[labels]), entropy(logits, np.eye(3)[labels[partners]])
    v1 = trusted(own, labels)
    v2 = v1[partners] if permuted else trusted(partner, labels[partners])
    first = v1 * own + (1 - v1) * entropy(logits, soft)
    second = v2 * partner + (1 - v2) * entropy(logits, soft[partners])
    expected = (lam * first + (1 - lam) * second).mean()
    found = loss_of(made, torch.from_numpy(logits), batch)
    assert float(found) == pytest.approx(float(expected), rel=1e-5)


def test_images_are_mixed_by_the_lambda_of_the_objective():
    made = method(num_classes=4, start_epoch=0, memory=0.0, mixup=2.0)
    made.begin_epoch(0)
    images = torch.randn(12, 1, 8, 8)
    ready = made.prepare(
        Batch(images, torch.arange(12) % 4, torch.arange(12)),
        Networks(network(), Teacher(network()), no_scan),
    )
    lam, partners = ready.evidence["lam"], ready.evidence["partners"]
    assert 0.5 <= float(lam) <= 1 and sorted(partners.tolist()) == list(range(12))
    torch.testing.assert_close(ready.images, lam * images + (1 - lam) * images[partners])


@pytest.mark.parametrize(("alpha", "low", "high"), [(0.05, 0.9, 1.0), (50.0, 0.5, 0.65)])
def test_the_meta_batch_is_mixed_by_an_alpha_of_its_own_and_so_are_its_labels(alpha, low, high):
    made = method(num_classes=4, weighting={"meta_mixup": alpha})
    images, labels = torch.randn(12, 1, 8, 8), torch.arange(12) % 4
    drawn = [made.prepare_meta(Batch(images, labels, torch.arange(12))) for _ in range(200)]
    assert low <= np.mean([float(batch.evidence["lam"]) for batch in drawn]) <= high
    lam, partners = drawn[0].evidence["lam"], drawn[0].evidence["partners"]
    torch.testing.assert_close(drawn[0].images, lam * images + (1 - lam) * images[partners])
    logits = np.random.default_rng(0).normal(size=(12, 4))
    own, theirs = (entropy(logits, np.eye(4)[of.numpy()]) for of in (labels, labels[partners]))
    expected = (float(lam) * own + (1 - float(lam)) * theirs).mean()
    assert float(made.meta_objective(torch.from_numpy(logits), drawn[0])) == pytest.approx(expected, rel=1e-5)


# --- the teacher's batch norm


def normed():
    """Batch norm on the pixels themselves, so that its statistics are those of the images."""
    layers = [torch.nn.BatchNorm2d(1), torch.nn.Flatten(), torch.nn.Linear(64, CLASSES)]
    return torch.nn.Sequential(*layers)


@pytest.mark.parametrize("begun", [False, True])
def test_a_teacher_that_is_asked_has_statistics_of_its_own_of_images_before_mixing(begun):
    run = task("soft-labels/cmw-net", **SL | {"start_epoch": 0 if begun else 1})
    final = state(run, "soft-labels/cmw-net", **SL | {"start_epoch": 0 if begun else 1})
    torch.manual_seed(0)
    model = normed()
    final = dataclasses.replace(
        final, model=model, teacher=Teacher(model), optimizer=Sgd(model.parameters(), run.recipe.optimizer)
    )
    final.method.begin_epoch(0)
    images = 2 + 3 * torch.randn(10, 1, 8, 8)
    expected = 0.9 * 1 + 0.1 * images.var()  # the momentum of batch norm is 0.1, it starts at 1
    iterate(final, run.recipe, Batch(images, torch.arange(10) % CLASSES, torch.arange(10)), None, 0.9)
    teachers, students = final.teacher.module[0].running_var, model[0].running_var
    torch.testing.assert_close(teachers.squeeze(), expected)
    assert torch.equal(teachers, students) is not begun  # the student saw mixed images, less varied
    assert not begun or students < teachers


def test_a_teacher_that_nobody_asks_has_the_students_statistics(tmp_path):
    final = trained("erm", {}, tmp_path)
    for ours, theirs in zip(final.teacher.module.buffers(), final.model.buffers(), strict=True):
        assert torch.equal(ours, theirs)


# --- the frozen function


def test_a_frozen_function_is_cmw_net_sl_that_does_not_learn(tmp_path):
    """The same objective as the learning method with the same function, on the same evidence."""
    weighting = frozen()
    problem = Problem(CLASSES, torch.tensor([0] * 20 + [1] * 10 + [2] * 6 + [3] * 4), weighting)
    learning = methods.build(options("soft-labels/cmw-net"), problem, seed=0)
    learning.weighting.net = weighting.net
    given_away = methods.build(options("soft-labels/frozen", **TRANSFER), problem, seed=0)
    given_away.begin_epoch(1)
    learning.begin_epoch(1)
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(8, CLASSES, generator=generator)
    evidence = {
        "soft": torch.randn(8, CLASSES, generator=generator).softmax(dim=1),
        "lam": torch.tensor(0.7),
        "partners": torch.randperm(8, generator=generator),
    }
    labels = torch.tensor([0, 1, 2, 3, 0, 1, 2, 3])
    batch = Batch(torch.empty(8), labels, torch.arange(8), evidence=evidence)
    torch.testing.assert_close(loss_of(given_away, logits, batch), loss_of(learning, logits, batch))
    before = [t.clone() for t in weighting.net.parameters()]
    trained("soft-labels/frozen", TRANSFER, tmp_path, weighting)
    assert all(torch.equal(a, b) for a, b in zip(before, weighting.net.parameters(), strict=True))


def test_mixing_by_the_networks_is_mixing():
    images, partners = torch.randn(5, 1, 2, 2), torch.tensor([4, 2, 0, 1, 3])
    mixed = Networks(torch.nn.Identity(), None, lambda network: torch.empty(0)).mix(images, partners, 0.25)
    torch.testing.assert_close(mixed, 0.25 * images + 0.75 * images[partners])


# --- on several processes

CHANGES = {"batch_size": 8, "precision": "fp32"}


def on_team(folder, team=SOLO):
    """In double precision and without dropout."""
    torch.set_default_dtype(torch.float64)
    weighting = frozen().double()
    run = task("soft-labels/frozen", recipe=recipe(**CHANGES), **TRANSFER)
    run = dataclasses.replace(run, problem=dataclasses.replace(run.problem, weighting=weighting))
    final = state(run, "soft-labels/frozen", dropout=0.0, **TRANSFER)
    if team.size > 1:
        run, final = share(run, final, team)
    train(run, final, StopRequest(), Path(folder))
    return final


WORKER = """
import sys, torch
from cmw_pipeline.runtime.team import joined_team
from tests.methods.test_soft_labels import on_team
with joined_team("cpu") as team:
    final = on_team(sys.argv[1] + "/side", team)
    torch.save([final.records, [t.detach() for t in final.tensors()]], f"{sys.argv[1]}/{team.rank}.pt")
"""


def test_two_processes_equal_one(tmp_path):
    """Mixing partners, soft labels and the teacher's statistics are those of the whole batch."""
    (tmp_path / "worker.py").write_text(WORKER)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*command, tmp_path / "worker.py", tmp_path],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=1800,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    before = torch.get_default_dtype()
    try:
        alone = on_team(tmp_path / "alone")
    finally:
        torch.set_default_dtype(before)
    for rank in (0, 1):
        records, tensors = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        for ours, theirs in zip(alone.records, records, strict=True):
            assert theirs["train_loss"] == pytest.approx(ours["train_loss"], rel=1e-5)
            assert theirs["scores"] == ours["scores"]
        for mine, found in zip(alone.tensors(), tensors, strict=True):
            torch.testing.assert_close(found, mine.detach(), rtol=1e-5, atol=1e-5)


def test_the_parts_that_processes_predict_cover_everything():
    """Also where the number of images cannot be divided among them, or is smaller than their number."""
    for count, size in ((16, 2), (17, 2), (100, 8), (9, 4), (3, 4)):
        parts = [_part(count, Team(rank, size)) for rank in range(size)]
        assert len({len(part) for part in parts}) == 1
        assert {row for part in parts for row in part} == set(range(count))
