"""SimCLR, and what starts from it: our strengthened CMW-Net-SL and the REED-like method."""

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from cmw_pipeline.methods import reed_like
from cmw_pipeline.methods.base import Batch, Networks, Problem
from cmw_pipeline.methods.registry import build
from cmw_pipeline.methods.simclr import nt_xent
from cmw_pipeline.runtime.signals import StopRequest
from cmw_pipeline.training.ema import Teacher
from cmw_pipeline.training.loop import train
from tests.support.tiny import CLASSES, loss_of, network, options, recipe, state, task

LABELS = torch.repeat_interleave(torch.arange(CLASSES), 6)
SIZE = len(LABELS)


def method(kind, epoch=0, problem=None, **changes):
    made = build(options(kind, **changes), problem or Problem(CLASSES, LABELS), seed=1)
    made.begin_epoch(epoch)
    return made


def images(seed, size=SIZE):
    return torch.randn(size, 1, 8, 8, generator=torch.Generator().manual_seed(seed))


# --- SimCLR


def test_nt_xent_written_out():
    z = torch.randn(6, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    unit = [row / row.norm() for row in z]
    for i, found in enumerate(nt_xent(z, 0.5)):
        similar = [math.exp(float(unit[i] @ unit[k]) / 0.5) for k in range(6)]
        partner = (i + 3) % 6
        expected = -math.log(similar[partner] / sum(s for k, s in enumerate(similar) if k != i))
        assert found.item() == pytest.approx(expected)


def test_nt_xent_falls_when_views_meet_and_pictures_part():
    together = torch.eye(4).repeat(2, 1)
    assert nt_xent(together, 0.1).max() < 1e-3
    assert nt_xent(torch.ones(8, 3), 0.1).mean().item() == pytest.approx(math.log(7))
    apart = torch.cat([torch.eye(4), torch.eye(4).roll(1, dims=0)])
    assert nt_xent(apart, 0.1).min() > 9


def test_the_loss_is_contrast_plus_probe_and_only_the_projection_moves_features():
    made, model = method("simclr"), network(0.0, head=method("simclr").facts.head)
    data = Batch(images(0), LABELS, torch.arange(SIZE), (images(1),))
    ready = made.prepare(data, Networks(model, None, lambda n: torch.empty(0)))
    assert torch.equal(ready.images, torch.cat([images(0), images(1)]))
    z = model.train()(ready.images)
    loss = loss_of(made, z, ready)
    each = F.cross_entropy(z[:, :CLASSES], LABELS.repeat(2), reduction="none") + nt_xent(z[:, CLASSES:], 0.5)
    torch.testing.assert_close(made.losses(z, ready), each)
    probe, contrast = F.cross_entropy(z[:, :CLASSES], LABELS.repeat(2)), nt_xent(z[:, CLASSES:], 0.5).mean()
    torch.testing.assert_close(loss, probe + contrast)
    filters = model.features[0].weight
    (all_of_it,) = torch.autograd.grad(loss, filters, retain_graph=True)
    (of_contrast,) = torch.autograd.grad(contrast, filters, retain_graph=True)
    torch.testing.assert_close(all_of_it, of_contrast)
    assert float(all_of_it.abs().max()) > 0
    assert float(torch.autograd.grad(probe, filters)[0].abs().max()) == 0


def test_labels_reach_the_probe_and_no_feature(tmp_path):
    ends = []
    for number in range(2):
        run = task("simclr", recipe=recipe(ema=None))
        if number:
            labels = run.labels.flip(0)
            problem = replace(run.problem, labels=labels[: run.num_train])
            run = replace(run, labels=labels, problem=problem)
        end = state(run, "simclr")
        train(run, end, StopRequest(), tmp_path / str(number))
        ends.append(end.model.state_dict())
    differ = {name for name in ends[0] if not torch.equal(ends[0][name], ends[1][name])}
    assert differ == {name for name in ends[0] if ".linear." in name}


def test_both_views_are_strong_and_differ():
    made = method("simclr")
    ((stream,),) = made.turns(0)
    assert stream.views == ("strong", "strong")
    assert len(stream.rows) == SIZE


# --- CMW-Net-SL, strengthened


def test_the_soft_label_comes_from_the_weak_view_and_the_gradient_from_the_strong_one():
    made = method("soft-labels", strong_view=True, mixup=0.0)
    assert [s.views for s in made.turns(0)[0]] == [("strong", "weak")]
    strong, weak = images(2), images(3)
    teacher = Teacher(network(0.0))
    data = Batch(strong, LABELS, torch.arange(SIZE), (weak,))
    ready = made.prepare(data, Networks(network(0.0), teacher, lambda n: torch.empty(0)))
    assert torch.equal(ready.images, strong)
    with torch.no_grad():
        expected = teacher.train()(weak).softmax(1)
        other = teacher(strong).softmax(1)
    torch.testing.assert_close(ready.evidence["soft"], expected)
    assert not torch.allclose(expected, other)


def test_the_warm_up_sees_weak_views_only():
    made = method("soft-labels", strong_view=True, start_epoch=2)
    assert [made.turns(epoch)[0][0].views for epoch in (0, 1, 2)] == [
        ("weak",),
        ("weak",),
        ("strong", "weak"),
    ]
    assert made.facts.starts_from_first


# --- REED-like


def planted(seed=0, size=400):
    """Labels of which 40 % are wrong, and a probe that knows the truth more or less."""
    rng = torch.Generator().manual_seed(seed)
    truth = torch.randint(0, CLASSES, (size,), generator=rng)
    wrong = torch.rand(size, generator=rng) < 0.4
    labels = torch.where(wrong, (truth + 1) % CLASSES, truth)
    probe = 5 * F.one_hot(truth, CLASSES) + torch.randn(size, CLASSES, generator=rng)
    return Problem(CLASSES, labels, first_logits=probe), wrong


def test_the_probes_small_losses_are_trusted():
    problem, wrong = planted()
    made = method("reed-like", epoch=5, problem=problem)
    trusted, rest = (stream.rows for stream in made.turns(5)[0])
    assert sorted([*trusted, *rest]) == list(range(400))
    assert wrong[trusted].float().mean() < 0.05
    assert wrong[rest].float().mean() > 0.95
    assert torch.equal(
        made.weights(torch.empty(0), Batch(torch.empty(0), LABELS, torch.arange(9))), made.posterior[:9]
    )


def test_before_the_start_epoch_it_trains_on_everything_by_cross_entropy():
    made = method("reed-like", problem=planted()[0], start_epoch=2)
    ((stream,),) = made.turns(1)
    assert len(stream.rows) == 400
    z = torch.randn(SIZE, CLASSES)
    data = Batch(images(0), LABELS, torch.arange(SIZE))
    torch.testing.assert_close(loss_of(made, z, data), F.cross_entropy(z, LABELS))


def reed_batch(**changes):
    problem, _ = planted(size=SIZE)
    made = method("reed-like", problem=problem, start_epoch=0, **changes)
    made.posterior.copy_(torch.linspace(0, 1, SIZE))
    rows = torch.arange(4)
    labelled = Batch(images(1, 4), problem.labels[rows + 20], rows + 20, (images(2, 4),))
    others = Batch(images(3, 4), problem.labels[rows], rows, (images(4, 4),))
    return made, network(0.0), replace(labelled, others=(others,))


def test_mixmatchs_targets_written_out(monkeypatch):
    """With λ' = 1 nothing is mixed: refined and guessed labels, sharpened, once for each view."""
    monkeypatch.setattr(reed_like, "draw_lambda", lambda alpha, device: torch.ones(()))
    made, model, data = reed_batch(temperature=0.5)
    ready = made.prepare(data, Networks(model, None, lambda n: torch.empty(0)))
    shown = [*(data.images, *data.views), *(data.others[0].images, *data.others[0].views)]
    torch.testing.assert_close(ready.images, torch.cat(shown))
    with torch.no_grad():
        p = network(0.0).train()(torch.cat(shown)).softmax(1).view(4, 4, CLASSES)
    trust = made.posterior[data.rows][:, None]
    refined = trust * F.one_hot(data.labels, CLASSES) + (1 - trust) * (p[0] + p[1]) / 2
    for part, q in ((0, refined), (1, refined), (2, (p[2] + p[3]) / 2), (3, (p[2] + p[3]) / 2)):
        expected = q**2 / (q**2).sum(1, keepdim=True)
        torch.testing.assert_close(ready.evidence["targets"][4 * part : 4 * part + 4], expected)


def test_mixmatchs_loss_written_out():
    made, model, data = reed_batch(lambda_u=10.0, ramp_epochs=4, prior_penalty=0.7)
    ready = made.prepare(data, Networks(model, None, lambda n: torch.empty(0)))
    z = torch.randn(16, CLASSES, generator=torch.Generator().manual_seed(5))
    p, t = z.softmax(1), ready.evidence["targets"]
    trusted = -(t[:8] * z.log_softmax(1)[:8]).sum(1).mean()
    guessed = ((p[8:] - t[8:]) ** 2).mean()
    mean = p.mean(0)
    penalty = (0.25 * (0.25 / mean).log()).sum()
    for epoch, ramp in ((0, 0.0), (1, 0.25), (4, 1.0), (9, 1.0)):
        made.begin_epoch(epoch)
        expected = trusted + 10 * ramp * guessed + 0.7 * penalty
        torch.testing.assert_close(loss_of(made, z, ready), expected)
