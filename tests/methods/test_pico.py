"""PiCO: soft labels that prototypes move, the queue of keys, and both contrasts, by loops over samples."""

import math

import pytest
import torch
import torch.nn.functional as F

from cmw_pipeline.methods.base import Batch, Networks, Problem
from cmw_pipeline.methods.pico import contrast_of_guesses, contrast_of_views, followed
from cmw_pipeline.methods.registry import build
from cmw_pipeline.models.heads import NUM_PROJECTED
from tests.support.tiny import network, options

SETS = [[True, True, False], [False, True, True], [False, False, True], [True, True, True]]


def pico(sets=SETS, epoch=1, **changes):
    candidates = torch.tensor(sets)
    problem = Problem(3, candidates.int().argmax(dim=1), candidates=candidates)
    method = build(options("pico", **changes), problem, seed=0)
    method.begin_epoch(epoch)
    return method


def unit(*shape, seed=0):
    return F.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)))


def batch_of(rows, seed=0):
    rows = torch.tensor(rows)
    keys = unit(len(rows), NUM_PROJECTED, seed=seed)
    labels = torch.tensor(SETS).int().argmax(dim=1)[rows]
    return Batch(torch.empty(0), labels, rows, evidence={"keys": keys})


def output(size=4, seed=5):
    return torch.randn(size, 3 + NUM_PROJECTED, generator=torch.Generator().manual_seed(seed))


def test_soft_labels_start_even_and_stand_still_before_guesses_count():
    method = pico(epoch=0)
    method.observe(output(), batch_of([0, 1, 2, 3]))
    expected = torch.tensor(SETS) / torch.tensor(SETS).sum(dim=1, keepdim=True)
    torch.testing.assert_close(method.targets, expected)
    loss = method.losses(output(), batch_of([0, 1, 2, 3]))
    torch.testing.assert_close(loss, -(expected * output()[:, :3].log_softmax(dim=1)).sum(dim=1))


def test_a_lone_candidate_is_a_label_for_ever():
    method = pico()
    for seed in range(5):
        method.observe(output(seed=seed), batch_of([0, 1, 2, 3], seed=seed))
    assert method.targets[2].tolist() == [0.0, 0.0, 1.0]
    torch.testing.assert_close(method.targets.sum(dim=1), torch.ones(4))
    assert not method.targets[~torch.tensor(SETS)].any()


def test_without_memory_the_soft_label_is_the_candidate_of_the_nearest_prototype():
    """By the prototypes as they were before this batch, and in time for its loss."""
    method = pico(memory_start=0.0, memory_end=0.0)
    method.prototypes.copy_(unit(3, NUM_PROJECTED, seed=9))
    before, logits = method.prototypes.clone(), output()
    near = F.normalize(logits[:, 3:]) @ before.T
    method.observe(logits, batch_of([0, 1, 2, 3]))
    labels = [max((k for k in range(3) if SETS[row][k]), key=lambda k: near[row, k]) for row in range(4)]
    assert method.targets.tolist() == F.one_hot(torch.tensor(labels), 3).tolist()
    expected = F.cross_entropy(logits[:, :3], torch.tensor(labels), reduction="none")
    torch.testing.assert_close(method.losses(logits, batch_of([0, 1, 2, 3])), expected)


@pytest.mark.parametrize(("epoch", "share"), [(1, 0.9), (3, 0.7), (4, 0.6), (9, 0.6)])
def test_the_share_that_stays_falls_in_equal_steps(epoch, share):
    method = pico(epoch=epoch, memory_start=1.0, memory_end=0.6, ramp_epochs=4)
    method.observe(output(), batch_of([0, 1, 2, 3]))
    assert float(method.targets[0].min()) == pytest.approx(0.0)
    assert float(method.targets[0].max()) == pytest.approx(share / 2 + 1 - share)


def test_prototypes_follow_one_query_after_the_other():
    queries, guesses = unit(7, 5), torch.tensor([2, 0, 2, 2, 0, 2, 1])
    expected = unit(4, 5, seed=1)
    start = expected.clone()
    for query, guess in zip(queries, guesses, strict=True):
        expected[guess] = 0.9 * expected[guess] + 0.1 * query
    torch.testing.assert_close(followed(start, queries, guesses, 0.9), expected)
    assert torch.equal(followed(start, queries, guesses, 0.9)[3], start[3])


def test_prototypes_have_length_one_where_a_class_was_guessed_and_are_of_guesses_among_candidates():
    method, logits = pico(), output(2)
    logits[:, 0] = 50.0
    method.observe(logits, batch_of([1, 2]))
    torch.testing.assert_close(method.prototypes.norm(dim=1)[2], torch.tensor(1.0))
    assert not method.prototypes[0].any()


def test_the_queue_keeps_the_last_keys_and_their_guesses():
    method = pico(queue=6)
    logits = output()
    logits[:, :3] = torch.tensor([9.0, 3.0, 1.0])
    first, second = batch_of([0, 1, 2, 3], seed=1), batch_of([3, 2, 1, 0], seed=2)
    method.observe(logits, first)
    assert method.queue_guesses.tolist() == [0, 1, 2, 0, -1, -1]
    method.observe(logits, second)
    torch.testing.assert_close(method.queue[:4], second.evidence["keys"])
    torch.testing.assert_close(method.queue[4:], first.evidence["keys"][:2])
    assert method.queue_guesses.tolist() == [0, 2, 1, 0, 0, 1]


def test_a_batch_is_compared_with_the_keys_before_it_and_its_own():
    method, logits = pico(queue=6), output()
    for seed in (1, 2):
        before = method.queue.clone()
        method.observe(logits, batch_of([0, 1, 2, 3], seed=seed))
        assert torch.equal(
            method.seen, torch.cat([batch_of([0, 1, 2, 3], seed=seed).evidence["keys"], before])
        )


def test_contrast_of_views_by_a_loop():
    queries, keys, queue = unit(3, 4), unit(3, 4, seed=1), unit(5, 4, seed=2)
    found = contrast_of_views(queries, torch.cat([keys, queue]), 0.1)
    for row, query in enumerate(queries):
        own = math.exp(float(query @ keys[row]) / 0.1)
        rest = sum(math.exp(float(query @ other) / 0.1) for other in queue)
        assert float(found[row]) == pytest.approx(-math.log(own / (own + rest)), abs=1e-5)


def test_contrast_of_guesses_by_a_loop():
    queries, others = unit(4, 6), unit(4 + 5, 6, seed=1)
    guesses = torch.tensor([0, 1, 0, 2, 1, 0, -1, 2, -1])
    found = contrast_of_guesses(queries, others, guesses, 0.2)
    everything, classes = torch.cat([queries, others]), [*guesses[:4].tolist(), *guesses.tolist()]
    for row, query in enumerate(queries):
        rest = [k for k in range(len(everything)) if k != row]
        total = sum(math.exp(float(query @ everything[k]) / 0.2) for k in rest)
        alike = [float(query @ everything[k]) / 0.2 for k in rest if classes[k] == classes[row]]
        expected = -sum(cosine - math.log(total) for cosine in alike) / len(alike)
        assert float(found[row]) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(("epoch", "contrast"), [(0, contrast_of_views), (1, contrast_of_guesses)])
def test_the_objective_is_both_losses(epoch, contrast):
    method, logits, batch = pico(epoch=epoch, contrast=0.3), output(), batch_of([0, 1, 2, 3])
    method.observe(logits, batch)
    loss = method.objective(logits, batch, method.weigh)
    more = (method.guessed,) if epoch else ()
    expected = contrast(F.normalize(logits[:, 3:]), method.seen, *more, 0.07).mean()
    torch.testing.assert_close(loss, method.losses(logits, batch).mean() + 0.3 * expected)


def test_the_keys_are_the_teachers_of_the_second_view():
    method = build(options("pico"), Problem(4, torch.zeros(6, dtype=torch.long)), 0)
    student, teacher = network(0.0, 0, "project"), network(0.0, 1, "project")
    weak, strong = torch.randn(6, 1, 8, 8), torch.randn(6, 1, 8, 8)
    batch = Batch(weak, torch.zeros(6, dtype=torch.long), torch.arange(6), views=(strong,))
    seen = method.prepare(batch, Networks(student, teacher, scan=None))
    assert seen.images is weak
    expected = F.normalize(teacher.train()(strong)[:, 4:])
    torch.testing.assert_close(seen.evidence["keys"], expected)
    assert not seen.evidence["keys"].requires_grad
