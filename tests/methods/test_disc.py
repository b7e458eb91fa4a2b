"""DISC: how samples are parted by two views, who is mixed with whom, and the loss by hand."""

import pytest
import torch
import torch.nn.functional as F

from cmw_pipeline.methods.base import Batch, Problem
from cmw_pipeline.methods.disc import partners_of_a_kind
from cmw_pipeline.methods.registry import build
from tests.support.tiny import loss_of, options

K, SIZE = 3, 6
LABELS = torch.tensor([0, 1, 2, 0, 1, 2])
ROWS = torch.arange(SIZE)


def method(epoch=1, **changes):
    made = build(options("disc", **({"start_epoch": 0} | changes)), Problem(K, LABELS), seed=0)
    made.begin_epoch(epoch)
    return made


def batch():
    draw = torch.Generator().manual_seed(0)
    first, second = torch.randn(2, SIZE, 1, 2, 2, generator=draw)
    return Batch(first, LABELS, ROWS, (second,))


def logits(count=4, seed=1):
    return 2 * torch.randn(count * SIZE, K, generator=torch.Generator().manual_seed(seed))


def part(made, weak, strong, thresholds):
    """Probabilities of the three classes in the weak and the strong view of six samples."""
    made.said.copy_(torch.tensor([weak, strong]))
    made.thresholds.copy_(torch.tensor(thresholds))
    made.between_epochs(1, None)
    return made


SURE, WRONG, EVEN = [0.8, 0.1, 0.1], [0.01, 0.98, 0.01], [0.4, 0.3, 0.3]


def test_clean_is_what_both_views_accept_hard_what_one_does_and_the_rest_is_corrected_or_left():
    """All labelled 0."""
    problem = Problem(K, torch.zeros(6, dtype=torch.int64))
    made = build(options("disc", start_epoch=0, offset=0.5), problem, seed=0)
    weak = [SURE, SURE, EVEN, WRONG, EVEN, WRONG]
    strong = [SURE, EVEN, SURE, WRONG, EVEN, EVEN]
    part(made, weak, strong, [[0.45] * 6] * 2)
    assert made.clean.tolist() == [True, False, False, False, False, False]
    assert made.hard.tolist() == [False, True, True, False, False, False]
    assert made.mixed.tolist() == [True, True, True, True, False, False]  # 0.64 < 0.95
    assert made.labels.tolist() == [0, 0, 0, 1, 0, 0]


def test_no_sample_is_in_two_parts_whatever_was_said():
    for seed in range(5):
        draw = torch.Generator().manual_seed(seed)
        made = method()
        made.said.copy_((4 * torch.randn(2, SIZE, K, generator=draw)).softmax(2))
        made.thresholds.copy_(0.5 * torch.rand(2, SIZE, generator=draw))
        made.between_epochs(1, None)
        corrected = made.mixed & ~made.clean & ~made.hard
        assert not (made.clean & made.hard).any()
        assert (made.labels == LABELS)[~corrected].all()
        assert (made.labels != LABELS)[corrected].all()


def test_thresholds_move_to_the_largest_probability_after_they_were_asked():
    made = part(method(memory=0.75), [SURE] * 6, [EVEN] * 6, [[0.2] * 6] * 2)
    expected = torch.tensor([[0.75 * 0.2 + 0.25 * 0.8] * 6, [0.75 * 0.2 + 0.25 * 0.4] * 6])
    torch.testing.assert_close(made.thresholds, expected)
    assert (made.thresholds >= 0.25 * made.said.amax(2)).all()


def test_a_first_threshold_is_one_in_the_number_of_samples_and_the_first_epoch_has_nothing_to_part_by():
    made = method()
    before = {name: tensor.clone() for name, tensor in made.state_dict().items()}
    torch.testing.assert_close(before["thresholds"], torch.full((2, SIZE), 1 / SIZE))
    made.between_epochs(0, None)
    assert all(torch.equal(tensor, before[name]) for name, tensor in made.state_dict().items())


@pytest.mark.parametrize("seed", range(4))
def test_partners_are_of_a_kind_and_everybody_is_one(seed):
    torch.manual_seed(seed)
    kind = torch.rand(50) < 0.3
    partners = partners_of_a_kind(kind)
    assert sorted(partners.tolist()) == list(range(50))
    assert (kind[partners] == kind).all()
    assert not torch.equal(partners, torch.arange(50))


def test_thresholds_of_zero_make_everything_clean_and_the_loss_cross_entropy_of_views_and_mixtures():
    made = part(method(), [SURE] * 6, [EVEN] * 6, [[0.0] * 6] * 2)
    assert made.clean.all()
    data, z = made.prepare(batch(), None), logits()
    first, second, *mixed = z.split(SIZE)
    expected = F.cross_entropy(first, LABELS) + F.cross_entropy(second, LABELS)
    for part_of, targets in zip(mixed, data.evidence["targets"].split(SIZE), strict=True):
        expected = expected + F.cross_entropy(part_of, targets)
    torch.testing.assert_close(loss_of(made, z, data), expected)


def test_the_loss_of_each_part_by_hand():
    made, data, z = method(hard=0.2, mixup=0.0), batch(), logits()
    made.clean.copy_(torch.tensor([1, 1, 0, 0, 0, 0]).bool())
    made.hard.copy_(torch.tensor([0, 0, 1, 0, 0, 0]).bool())
    made.mixed.copy_(torch.tensor([1, 1, 1, 1, 0, 0]).bool())
    made.labels[3] = 2
    data = made.prepare(data, None)
    views = [part.log_softmax(1) for part in z.split(SIZE)]
    p = [view[ROWS, LABELS] for view in views]
    expected = -sum(p[view][i] for view in (0, 1) for i in (0, 1)) / SIZE
    expected = expected + 0.2 * sum((1 - p[view][2].exp() ** 0.7) / 0.7 for view in (0, 1)) / SIZE
    # Without mixing the targets are those of the partners themselves.
    targets = data.evidence["targets"].split(SIZE)
    for view in (2, 3):
        assert targets[view - 2].argmax(1).tolist() == [0, 1, 2, 2, 1, 2]
        expected = expected - sum((targets[view - 2][i] * views[view][i]).sum() for i in range(4)) / 4
    torch.testing.assert_close(loss_of(made, z, data), expected)


def test_where_nothing_is_accepted_there_is_no_loss():
    made = method()
    z = logits().requires_grad_()
    loss = loss_of(made, z, made.prepare(batch(), None))
    loss.backward()
    assert loss.item() == 0.0
    assert not z.grad.any()


def test_images_are_the_views_and_then_their_mixtures():
    made, data = method(), batch()
    made.mixed.copy_(torch.tensor([1, 1, 1, 0, 0, 0]).bool())
    shown = made.prepare(data, None).images.split(SIZE)
    assert torch.equal(shown[0], data.images)
    assert torch.equal(shown[1], data.views[0])
    for view, mixed in zip(shown[:2], shown[2:], strict=True):
        torch.testing.assert_close(mixed[:3].sum(0), view[:3].sum(0))  # a permutation keeps the sum
        torch.testing.assert_close(mixed[3:].sum(0), view[3:].sum(0))


def test_before_it_starts_it_is_cross_entropy_of_both_views_and_remembers_what_they_say():
    made = method(epoch=0, start_epoch=1)
    data, z = made.prepare(batch(), None), logits(2)
    first, second = z.chunk(2)
    expected = F.cross_entropy(first, LABELS) + F.cross_entropy(second, LABELS)
    torch.testing.assert_close(loss_of(made, z, data), expected)
    made.observe(z, data)
    torch.testing.assert_close(made.said, torch.stack([first.softmax(1), second.softmax(1)]))
