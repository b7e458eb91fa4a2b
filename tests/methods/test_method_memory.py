"""ELR, SAT, LRT and PLC: what they remember of each sample, and what that does to the loss."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from cmw_pipeline.methods.base import Batch, Networks, Problem
from cmw_pipeline.methods.registry import build
from cmw_pipeline.runtime.signals import StopRequest
from cmw_pipeline.training.loop import train
from tests.support.tiny import CLASSES, loss_of, options, recipe, state, task

LABELS = torch.repeat_interleave(torch.arange(CLASSES), 6)
SIZE = len(LABELS)
NOBODY = Networks(torch.nn.Identity(), None, lambda network: torch.empty(0))
KINDS = ["elr", "sat", "lrt", "plc"]


def method(kind, **changes):
    made = build(options(kind, **({"start_epoch": 0} | changes)), Problem(CLASSES, LABELS), seed=1)
    made.begin_epoch(0)
    return made


def batch(rows):
    rows = torch.as_tensor(rows)
    return Batch(torch.empty(0), LABELS[rows], rows)


def logits(seed, size=SIZE):
    return torch.randn(size, CLASSES, generator=torch.Generator().manual_seed(seed)) * 2


@pytest.mark.parametrize("kind", KINDS)
def test_before_its_start_epoch_each_is_plain_mean_cross_entropy(kind):
    made, data, z = method(kind, start_epoch=2), batch([1, 8, 15, 20]), logits(0, 4)
    plain = F.cross_entropy(z, data.labels)
    for epoch in range(2):
        made.begin_epoch(epoch)
        made.between_epochs(epoch, NOBODY)
        made.observe(z, data)
        torch.testing.assert_close(loss_of(made, z, data), plain)


NEUTRAL = {
    "elr": {"strength": 0.0},
    "sat": {"memory": 1.0},
    "lrt": {"ratio": 1e9, "anchor_share": 0.0, "anchor_rest": 0.0},
    "plc": {"threshold": 0.0, "threshold_step": 0.0},
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("neutral", [True, False])
def test_a_neutral_setting_trains_exactly_as_erm_and_no_other_does(tmp_path, kind, neutral):
    sharp = {
        "lrt": {"correct_after": 0, "ratio": 0.5, "ratio_step": 0.0},
        "plc": {"threshold": 1.0, "start_epoch": 1},
    }
    changes = {"start_epoch": 0} | (NEUTRAL[kind] if neutral else sharp.get(kind, {}))
    ends = []
    for name, more in (("erm", {}), (kind, changes)):
        run = task(name, recipe=recipe(ema=None), **more)
        end = state(run, name, **more)
        train(run, end, StopRequest(), tmp_path / name)
        ends.append(torch.cat([p.detach().flatten() for p in end.model.parameters()]))
    assert torch.allclose(*ends, rtol=1e-4, atol=1e-6) == neutral


# --- ELR


def test_elrs_loss_written_out_for_one_sample():
    made = method("elr", memory=0.6, strength=2.0)
    for z in ([1.0, 0.0, 0.0, -1.0], [0.0, 2.0, 0.0, 0.0]):
        now = torch.tensor([z])
        made.observe(now, batch([7]))
    e = math.e
    total = [e + 2 + 1 / e, e**2 + 3]
    first = [e / total[0], 1 / total[0], 1 / total[0], 1 / e / total[0]]
    second = [1 / total[1], e**2 / total[1], 1 / total[1], 1 / total[1]]
    t = [0.6 * 0.4 * a + 0.4 * b for a, b in zip(first, second, strict=True)]
    expected = -math.log(second[1]) + 2 * math.log(1 - sum(a * b for a, b in zip(t, second, strict=True)))
    assert LABELS[7] == 1
    assert loss_of(made, now, batch([7])).item() == pytest.approx(expected, rel=1e-5)


def test_elrs_targets_hold_one_minus_beta_to_the_n():
    made = method("elr", memory=0.7)
    for step in range(4):
        made.observe(logits(step, 3), batch([0, 5, 9]))
    sums = made.targets.sum(dim=1)
    torch.testing.assert_close(sums[[0, 5, 9]], torch.full((3,), 1 - 0.7**4))
    assert sums.sum().item() == pytest.approx(3 * (1 - 0.7**4), rel=1e-5)  # nobody else's


def test_elrs_gradient_is_cross_entropys_plus_a_pull_towards_the_target():
    """∂/∂z of log(1 − <t, p>) is −p (t − <t, p>) / (1 − <t, p>); none goes through t."""
    made, data = method("elr", memory=0.5, strength=3.0), batch(range(5))
    made.observe(logits(3, 5), data)
    z = logits(4, 5).requires_grad_()
    (found,) = torch.autograd.grad(loss_of(made, z, data), z)
    p, t = z.detach().softmax(1), made.targets[:5]
    inner = (t * p).sum(1, keepdim=True)
    expected = p - F.one_hot(data.labels, CLASSES) - 3 * p * (t - inner) / (1 - inner)
    torch.testing.assert_close(found, expected / 5, rtol=1e-4, atol=1e-6)


def test_elr_stays_finite_when_sure_of_itself():
    made, data = method("elr", memory=0.0, strength=7.0), batch([0, 6])
    z = (torch.eye(CLASSES)[:2] * 1e4).requires_grad_()
    made.observe(z.detach(), data)
    loss = loss_of(made, z, data)
    assert torch.isfinite(loss)
    assert torch.isfinite(torch.autograd.grad(loss, z)[0]).all()


# --- SAT


def test_sats_targets_start_at_the_labels_and_the_loss_is_weighted_by_their_largest_entry():
    made, data, z = method("sat", memory=0.9), batch([2, 11, 23]), logits(1, 3)
    assert torch.equal(made.targets.argmax(1), LABELS)
    made.observe(z, data)
    targets = 0.9 * np.eye(CLASSES)[[0, 1, 3]] + 0.1 * z.softmax(1).numpy()
    np.testing.assert_allclose(made.targets[data.rows].numpy(), targets, rtol=1e-5)
    w = targets.max(axis=1)
    losses = -(targets * z.log_softmax(1).numpy()).sum(axis=1)
    assert loss_of(made, z, data).item() == pytest.approx((w * losses).sum() / w.sum(), rel=1e-5)


def test_a_confident_network_turns_a_wrong_label_round():
    made, data = method("sat", memory=0.9), batch([0])
    for _ in range(7):
        made.observe(torch.tensor([[0.0, 20.0, 0.0, 0.0]]), data)
    assert made.targets[0].argmax() == 1  # 0.9^7 < 1/2 < 0.9^6
    assert made.targets[1].argmax() == 0


# --- PLC and LRT


def said(made, epochs, p_wrong, row=0, guess=2):
    """Let the network say in each of these epochs that a sample is of another class."""
    for epoch in epochs:
        made.begin_epoch(epoch)
        p = torch.full((SIZE, CLASSES), 0.01)
        p[torch.arange(SIZE), LABELS] = 0.97
        p[row] = torch.tensor([1 - p_wrong - 0.02 if k == 0 else 0.01 for k in range(CLASSES)])
        p[row, guess] = p_wrong
        made.observe(p.log(), batch(range(SIZE)))


def test_plc_corrects_what_falls_below_the_threshold_and_nothing_else():
    for p_wrong, flips in ((0.70, False), (0.80, True)):  # 0.28 / 0.70 = 0.40, 0.18 / 0.80 = 0.225
        made = method("plc", start_epoch=3, window=3, threshold=0.3, dry=0.0)
        said(made, range(3), p_wrong)
        made.between_epochs(2, NOBODY)
        assert torch.equal(made.corrected, LABELS)  # still warming up
        made.between_epochs(3, NOBODY)
        expected = LABELS.clone()
        expected[0] = 2 if flips else 0
        assert torch.equal(made.corrected, expected)
        z = logits(5, 2)
        torch.testing.assert_close(loss_of(made, z, batch([0, 6])), F.cross_entropy(z, expected[[0, 6]]))


def test_plcs_threshold_rises_only_when_corrections_dry_up_and_never_beyond_its_end():
    made = method("plc", start_epoch=1, window=1, threshold=0.3, threshold_step=0.25, dry=0.04)
    said(made, [0], 0.9)
    found = []
    for epoch in range(1, 6):
        made.between_epochs(epoch, NOBODY)  # the first one corrects 1 of 24, more than 4 %
        found.append(made.threshold.item())
    assert found == pytest.approx([0.3, 0.55, 0.8, 0.9, 0.9])


def test_the_history_averages_the_last_window_alone():
    made = method("plc", start_epoch=1, window=2, threshold=0.5, dry=0.0)
    said(made, [0, 1], 0.95)
    said(made, [2, 3], 0.02)  # back to the label: what was said in epochs 0 and 1 is forgotten
    made.between_epochs(4, NOBODY)
    assert torch.equal(made.corrected, LABELS)
    said(made, [4], 0.95)  # (0.95 + 0.02) / 2 against (0.03 + 0.96) / 2
    made.between_epochs(5, NOBODY)
    assert torch.equal(made.corrected, LABELS)
    said(made, [5], 0.95)
    made.between_epochs(6, NOBODY)
    assert made.corrected[0] == 2


@pytest.mark.parametrize("kind", ["plc", "lrt"])
def test_a_sample_never_seen_keeps_its_label(kind):
    made = method(kind, start_epoch=1) if kind == "plc" else method(kind, correct_after=0)
    made.observe(torch.zeros(3, CLASSES), batch([1, 2, 3]))
    made.between_epochs(1, NOBODY)
    assert torch.equal(made.corrected, LABELS)


def test_lrts_ratio_grows_with_each_correction():
    """The first correction, after epoch 2, needs 1.2 + 0.5; the second 2.2."""
    for p_wrong, expected in ((0.60, [0, 0]), (0.65, [2, 2])):  # 0.60 / 0.38 = 1.58, 0.65 / 0.33 = 1.97
        made = method("lrt", start_epoch=1, correct_after=2, window=1, ratio_step=0.5)
        said(made, range(3), p_wrong)
        made.between_epochs(2, NOBODY)
        assert torch.equal(made.corrected, LABELS)
        found = []
        for epoch in (3, 4):
            made.between_epochs(epoch, NOBODY)
            found.append(int(made.corrected[0]))
        assert found == expected
        assert torch.equal(made.corrected[1:], LABELS[1:])
    late = method("lrt", start_epoch=1, correct_after=2, window=1, ratio_step=0.5)
    said(late, range(3), 0.65)
    late.between_epochs(4, NOBODY)
    assert late.corrected[0] == 0  # 1.97 < 2.2


def test_lrts_anchor_is_the_label_of_the_start_renewed_once():
    made = method("lrt", start_epoch=1, correct_after=1, window=1, anchor_interval=2)
    said(made, [0, 1], 0.95)
    anchors = []
    for epoch in range(1, 5):
        made.between_epochs(epoch, NOBODY)
        anchors.append(int(made.anchor[0]))
        if epoch == 3:
            said(made, [3], 0.95, guess=3)
    assert made.corrected[0] == 3
    assert anchors == [0, 0, 2, 2]


def test_lrts_loss_equals_that_with_the_published_matrices():
    """S3 of the notes: N x K x K matrices, ε everywhere and ρ in the row of the anchor label."""
    made = method("lrt", correct_after=0, window=1, anchor_share=0.9, anchor_rest=1e-2)
    said(made, [0], 0.95)
    made.between_epochs(1, NOBODY)
    made.begin_epoch(1)
    matrices = torch.full((SIZE, CLASSES, CLASSES), 1e-2)
    matrices[torch.arange(SIZE), LABELS] = 0.9
    data, z = batch([0, 7, 13]), logits(8, 3)
    log_p = z.log_softmax(1)
    column = F.one_hot(made.corrected[data.rows], CLASSES).float()
    retro = -(torch.einsum("bkj,bj->bk", matrices[data.rows], column) * log_p).sum(1)
    expected = F.cross_entropy(z, torch.tensor([2, 1, 2])) + retro.mean()
    torch.testing.assert_close(loss_of(made, z, data), expected)
