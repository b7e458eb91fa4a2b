"""A weighting in a loop of one's own: what a step promises, whatever the model and whatever is around it."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from cmw_pipeline import Reweighter, load_weighting
from cmw_pipeline.errors import ConfigError, NumericsError

COUNTS = [50, 20, 10]


def model(width=16):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Linear(width, 3))


def batch(seed=0, size=12):
    rng = torch.Generator().manual_seed(seed)
    return torch.randn(size, 4, generator=rng), torch.arange(size) % 3


def functions(reweighter):
    return [weight.detach().clone() for weight in reweighter.method.weighting.net.parameters()]


def test_the_rate_is_the_optimisers_as_a_schedule_moves_it():
    net = model()
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.5)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.1)
    reweighter = Reweighter(net, class_counts=COUNTS, lr=optimizer)
    assert reweighter.lr == 0.5
    optimizer.step()
    schedule.step()
    assert reweighter.lr == pytest.approx(0.05)


@pytest.mark.parametrize("weighting", ["cmw-net", "mw-net", "l2rw", "mcw"])
def test_a_meta_batch_changes_what_losses_count_and_nothing_else(weighting):
    net = model()
    reweighter = Reweighter(net, weighting, class_counts=COUNTS, lr=0.1)
    weights = [p.detach().clone() for p in net.parameters()]
    plain = reweighter.step(*batch())
    seen = int(net[1].num_batches_tracked)
    taught = reweighter.step(*batch(), batch(1))
    assert not torch.equal(plain.detach(), taught.detach())
    assert int(net[1].num_batches_tracked) == seen + 1 == 2
    assert all(torch.equal(a, b) for a, b in zip(weights, net.parameters(), strict=True))
    assert all(p.grad is None for p in [*net.parameters(), *reweighter.method.parameters()])
    taught.backward()
    assert all(p.grad is not None for p in net.parameters())
    assert all(p.grad is None for p in reweighter.method.parameters())


def test_the_loss_is_the_weighted_mean_of_cross_entropies_as_asked():
    images, labels = batch()
    for normalisation in ("mean", "sum"):
        net = model()
        reweighter = Reweighter(net, class_counts=COUNTS, lr=0.1, normalisation=normalisation)
        loss = reweighter.step(images, labels)
        losses = F.cross_entropy(reweighter.logits, labels, reduction="none")
        values = reweighter.weigh(losses, labels).values
        mass = values.sum() if normalisation == "sum" else len(labels)
        torch.testing.assert_close(loss, (values * losses).sum() / mass)
    uniform = Reweighter(net, "uniform", class_counts=COUNTS, lr=0.1)
    torch.testing.assert_close(uniform.step(images, labels), F.cross_entropy(net(images), labels))


def test_a_continued_weighting_is_the_one_that_went_on():
    net = model()
    first = Reweighter(net, class_counts=COUNTS, lr=0.1, seed=1)
    first.step(*batch(), batch(1))
    second = Reweighter(net, class_counts=COUNTS, lr=0.1, seed=2)
    second.load_state_dict({name: tensor.clone() for name, tensor in first.state_dict().items()})
    for reweighter in (first, second):
        reweighter.step(*batch(2), batch(3))
    assert all(map(torch.equal, functions(first), functions(second)))


def test_half_precision_is_near_full_precision():
    found = []
    for precision in (None, torch.bfloat16):
        net = model()
        reweighter = Reweighter(net, class_counts=COUNTS, lr=0.1)
        with torch.autocast("cpu", precision, enabled=precision is not None):
            loss = reweighter.step(*batch(), batch(1))
        loss.backward()
        found.append((loss.detach(), torch.cat([p.grad.flatten() for p in net.parameters()])))
    (full, slope), (half, other) = found
    assert float(half) == pytest.approx(float(full), rel=0.02)
    assert float(F.cosine_similarity(slope, other, dim=0)) > 0.99


def test_accumulated_gradients_are_the_sum_of_each():
    def gradients(*seeds):
        net = model()
        reweighter = Reweighter(net, class_counts=COUNTS, lr=0.1)
        for seed in seeds:
            reweighter.step(*batch(seed)).backward()
        return [p.grad for p in net.parameters()]

    for both, first, second in zip(gradients(0, 1), gradients(0), gradients(1), strict=True):
        torch.testing.assert_close(both, first + second)


class Attending(nn.Module):
    """Attention, whose fused form has no forward mode."""

    def __init__(self, dropout):
        super().__init__()
        self.into, self.out, self.dropout = nn.Linear(1, 24), nn.Linear(32, 3), dropout

    def forward(self, x):
        q, k, v = self.into(x[..., None]).view(len(x), 4, 1, 3, 8).permute(3, 0, 2, 1, 4)
        seen = F.scaled_dot_product_attention(q, k, v, dropout_p=self.dropout)
        return self.out(seen.flatten(1))


def test_fused_attention_is_learned_through_like_any_other():
    found = []
    for backends in ([SDPBackend.FLASH_ATTENTION], [SDPBackend.MATH]):
        torch.manual_seed(0)
        reweighter = Reweighter(Attending(0.0), class_counts=COUNTS, lr=0.1)
        with sdpa_kernel(backends):
            reweighter.step(*batch(), batch(1))
        found.append(functions(reweighter))
    for fused, plain in zip(*found, strict=True):
        torch.testing.assert_close(fused, plain, atol=1e-5, rtol=0)


def test_what_is_saved_is_what_was_learned(tmp_path):
    reweighter = Reweighter(model(), class_counts=torch.tensor(COUNTS), lr=0.1, normalisation="sum")
    reweighter.step(*batch(), batch(1))
    losses, labels = torch.tensor([0.1, 0.5, 0.9]), torch.arange(3)
    reweighter.weigh(losses * 10, labels)  # so large losses have been seen
    reweighter.save(tmp_path)
    weights = reweighter.weigh(losses, labels)
    again = load_weighting(tmp_path)
    torch.testing.assert_close(again(losses, labels), weights.values)
    torch.testing.assert_close(again.mean(losses, labels), weights.mean(losses))


def test_bounded_levels_are_saved_once_they_are_settled(tmp_path):
    reweighter = Reweighter(model(), class_counts=COUNTS, lr=0.1, levels="bounded")
    reweighter.step(*batch(), batch(1))
    with pytest.raises(ConfigError, match="not settled"):
        reweighter.save(tmp_path)
    reweighter.settle(torch.rand(80), torch.repeat_interleave(torch.arange(3), torch.tensor(COUNTS)))
    reweighter.save(tmp_path)
    assert load_weighting(tmp_path).net.level is not None


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"weighting": "cmwnet"}, "no weighting 'cmwnet'; did you mean 'cmw-net'"),
        ({"normalization": "sum"}, "no option 'normalization'; did you mean 'normalisation'"),
        ({"normalisation": "max"}, "option normalisation: Input should be 'mean' or 'sum'"),
        ({"meta_set": "clean-10"}, "no option 'meta_set'"),
        ({"class_counts": [-1, 2]}, "class 0 has -1 samples"),
        ({"lr": -0.1}, "lr is -0.1; expected the rate"),
    ],
)
def test_what_cannot_be_asked_is_said(asked, said):
    with pytest.raises(ConfigError, match=said):
        Reweighter(model(), **{"class_counts": COUNTS, "lr": 0.1} | asked)


IMAGES, LABELS = batch()
STEPS = {
    "floats": ((IMAGES, LABELS.float()), r"labels are torch\.float32 of shape \(12,\)"),
    "a column": ((IMAGES, LABELS[:, None]), r"shape \(12, 1\); expected integers of shape \(B,\)"),
    "from 1 on": ((IMAGES, LABELS + 1), "labels are 1 to 3; by class_counts they are 0 to 2"),
    "a list": ((IMAGES, LABELS.tolist()), "labels are list"),
    "no pair": ((IMAGES, LABELS, IMAGES), r"meta batch is Tensor; expected \(inputs, labels\)"),
    "empty": ((IMAGES, LABELS, (IMAGES[:0], LABELS[:0])), r"labels of the meta batch are .* shape \(0,\)"),
    "other classes": ((IMAGES, LABELS, (IMAGES, LABELS + 2)), "labels of the meta batch are 2 to 4"),
}


@pytest.mark.parametrize("case", STEPS)
def test_a_batch_that_is_none_is_refused_and_changes_nothing(case):
    given, said = STEPS[case]
    reweighter = Reweighter(model(), class_counts=COUNTS, lr=0.1)
    before = functions(reweighter)
    with pytest.raises(ConfigError, match=said):
        reweighter.step(*given)
    assert all(torch.equal(a, b) for a, b in zip(before, functions(reweighter), strict=True))


@pytest.mark.parametrize("dtype", [torch.int32, torch.int16, torch.uint8])
def test_labels_are_any_integers(dtype):
    losses = []
    for labels in (LABELS, LABELS.to(dtype)):
        reweighter = Reweighter(model(), class_counts=COUNTS, lr=0.1)
        losses.append(reweighter.step(IMAGES, labels, (IMAGES, labels)))
    assert torch.equal(*losses)


def test_without_gradients_nothing_can_be_learned_and_a_loss_can_be_had():
    reweighter = Reweighter(model(), class_counts=COUNTS, lr=0.1)
    with torch.no_grad():
        assert not reweighter.step(IMAGES, LABELS).requires_grad
        with pytest.raises(ConfigError, match="have no gradient"):
            reweighter.step(IMAGES, LABELS, batch(1))
    frozen = Reweighter(model().requires_grad_(False), class_counts=COUNTS, lr=0.1)
    with pytest.raises(ConfigError, match="have no gradient"):
        frozen.step(IMAGES, LABELS, batch(1))


def test_a_model_that_gives_no_tensor_is_refused():
    reweighter = Reweighter(model(), class_counts=COUNTS, lr=0.1, logits=lambda net, x: (net(x), None))
    with pytest.raises(ConfigError, match=r"gives a tuple; expected \(12, 3\)"):
        reweighter.step(*batch())


def test_logits_of_another_shape_are_refused():
    reweighter = Reweighter(model(), class_counts=[*COUNTS, 5], lr=0.1)
    with pytest.raises(ConfigError, match=r"shape \(12, 3\); expected \(12, 4\)"):
        reweighter.step(*batch())


def test_a_class_balanced_weighting_learns_no_function(tmp_path):
    reweighter = Reweighter(model(), "class-balanced", class_counts=COUNTS, lr=0.1)
    reweighter.step(*batch()).backward()
    with pytest.raises(ConfigError, match="class-balanced learns no function"):
        reweighter.save(tmp_path)


def test_a_gradient_that_is_not_finite_leaves_the_weighting_as_it_was():
    reweighter = Reweighter(model(), class_counts=COUNTS, lr=0.1)
    before = functions(reweighter)
    images, labels = batch()
    with pytest.raises(NumericsError):
        reweighter.step(images * torch.inf, labels, batch(1))
    assert all(map(torch.equal, before, functions(reweighter)))


@pytest.mark.parametrize("with_meta", [False, True])
def test_a_loss_that_is_not_finite_leaves_a_function_that_can_be_saved_and_loaded(tmp_path, with_meta):
    reweighter = Reweighter(model(), class_counts=COUNTS, lr=0.1)
    images, labels = batch()
    reweighter.step(images, labels, batch(1))
    largest = reweighter.method.weighting.net.loss_max.clone()
    images[3] = float("nan")
    if with_meta:
        with pytest.raises(NumericsError):
            reweighter.step(images, labels, batch(1))
    else:
        reweighter.step(images, labels)
    assert reweighter.method.weighting.net.loss_max == largest
    reweighter.save(tmp_path / "function")
    load_weighting(tmp_path / "function")


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_models_of_another_precision_learn_a_function_too(dtype):
    reweighter = Reweighter(model().to(dtype), class_counts=COUNTS, lr=0.1)
    (images, labels), (metas, trusted) = batch(), batch(1)
    before = functions(reweighter)
    reweighter.step(images.to(dtype), labels, (metas.to(dtype), trusted)).backward()
    assert any(not torch.equal(a, b) for a, b in zip(before, functions(reweighter), strict=True))


def test_a_copy_steps_like_what_it_is_a_copy_of():
    reweighter = Reweighter(model(), class_counts=COUNTS, lr=0.1)
    again = copy.deepcopy(reweighter)
    one, other = (each.step(*batch(), batch(1)) for each in (reweighter, again))
    assert one.equal(other)
