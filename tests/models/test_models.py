"""The classifiers are the known ones: their sizes by independent arithmetic, their shapes, their seeds."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torchvision
from sklearn.datasets import load_sample_images
from torch.func import functional_call, jvp

from cmw_pipeline.config.schema import Network
from cmw_pipeline.errors import ConfigError
from cmw_pipeline.meta.tangent import Forward, copied_buffers
from cmw_pipeline.models.heads import CosineHead, ExpertHead
from cmw_pipeline.models.registry import EXPERTS, NETWORKS, build

NAMES = sorted(NETWORKS)
FORMS = [
    (name, head) for name in NAMES for head in ("linear", "cosine", "probe", "project", "abstain", "select")
]
FORMS += [(name, "experts") for name in EXPERTS]
SMALL = [("small-cnn", "cosine"), ("small-cnn", "experts"), ("small-cnn", "probe"), ("resnet32", "experts")]
TRAINED = {
    "linear": [10],
    "cosine": [10],
    "experts": [3, 10],
    "probe": [10 + 128],
    "project": [10 + 128],
    "abstain": [11],
    "select": [21],
}
"""Shape for one picture while training, of 10 classes."""


def make(name, head="linear", towers=1, seed=0, width=4):
    return build(Network(name=name, width=width), 3, 10, seed, head, towers)


def count(name, channels=3, classes=10, width=None, head="linear"):
    model = build(Network(name=name, width=width), channels, classes, 0, head)
    return sum(p.numel() for p in model.parameters())


def conv(inputs, outputs, size=3):
    return inputs * outputs * size * size


def norm(channels):
    return 2 * channels


def resnet32_size(channels, classes, w):
    """A stem, then 15 blocks of two convolutions; option A shortcuts have no parameters."""
    layers = [conv(channels, w), norm(w)]
    before = w
    for width in (w, 2 * w, 4 * w):
        for block in range(5):
            first = before if block == 0 else width
            layers += [conv(first, width), norm(width), conv(width, width), norm(width)]
        before = width
    return sum(layers) + 4 * w * classes + classes


def preact_size(channels, classes, w, depth):
    """A stem, then blocks that normalise first; 1 x 1 shortcuts where the width grows."""
    layers = [conv(channels, w), norm(w)]
    before = w
    for width, blocks in zip((w, 2 * w, 4 * w, 8 * w), depth, strict=True):
        for block in range(blocks):
            first = before if block == 0 else width
            layers += [norm(first), conv(first, width), norm(width), conv(width, width)]
            layers += [conv(first, width, 1)] if first != width else []
        before = width
    return sum(layers) + 8 * w * classes + classes


def test_resnet32_has_the_known_464154_parameters():
    assert count("resnet32") == resnet32_size(3, 10, 16) == 464_154
    assert count("resnet32", classes=100) == resnet32_size(3, 100, 16)
    assert count("resnet32", channels=1, width=4) == resnet32_size(1, 10, 4)


def test_preact_resnet18_has_the_known_11_million_parameters():
    depth = (2, 2, 2, 2)
    assert (
        count("preact-resnet18") == preact_size(3, 10, 64, depth) == 11_171_146 + norm(64)
    )  # + the stem's norm
    assert count("preact-resnet18", channels=1, classes=100, width=4) == preact_size(1, 100, 4, depth)


def shaken(model, seed=0):
    """The model in evaluation mode with every number drawn, so that no layer is nearly the identity."""
    draws = torch.Generator().manual_seed(seed)
    for tensor in [*model.parameters(), *(b for b in model.buffers() if b.is_floating_point())]:
        noise = torch.rand(tensor.shape, generator=draws, dtype=tensor.dtype) + 0.5
        tensor.data = noise if tensor.ndim == 1 else (noise - 1) / tensor[0].numel() ** 0.5
    return model.eval()


def normalised(x, mean, variance, scale, shift):
    """Batch normalisation with known statistics, channel by channel."""
    mean, variance, scale, shift = (v[:, None, None] for v in (mean, variance, scale, shift))
    return (x - mean) / (variance + 1e-5).sqrt() * scale + shift


def norm_of(model, name):
    return [
        model.get_parameter(f"{name}.{n}") if n in ("weight", "bias") else model.get_buffer(f"{name}.{n}")
        for n in ("running_mean", "running_var", "weight", "bias")
    ]


def preact_logits(model, images, blocks):
    """The published network in plain operations: every shortcut carries relu(bn1(x))."""
    weight = model.get_parameter
    x = F.conv2d(images, weight("stem.0.weight"), padding=1)
    x = normalised(x, *norm_of(model, "stem.1")).relu()
    for number, (stride, changes) in enumerate(blocks):
        block = f"stages.{number}"
        a = normalised(x, *norm_of(model, f"{block}.bn1")).relu()
        y = F.conv2d(a, weight(f"{block}.conv1.weight"), stride=stride, padding=1)
        y = normalised(y, *norm_of(model, f"{block}.bn2")).relu()
        y = F.conv2d(y, weight(f"{block}.conv2.weight"), padding=1)
        x = y + (F.conv2d(a, weight(f"{block}.shortcut.weight"), stride=stride) if changes else a)
    return x.mean((2, 3)) @ weight("classifier.weight").T + weight("classifier.bias")


@pytest.mark.parametrize(
    ("name", "depth"), [("preact-resnet18", (2, 2, 2, 2)), ("preact-resnet34", (3, 4, 6, 3))]
)
def test_preact_resnets_compute_the_published_formula(name, depth):
    model, images = shaken(make(name).double()), torch.rand(2, 3, 16, 16, dtype=torch.float64)
    blocks = [
        (2 if stage and not block else 1, bool(stage and not block))
        for stage, count in enumerate(depth)
        for block in range(count)
    ]
    torch.testing.assert_close(model(images), preact_logits(model, images, blocks))


def wide_logits(model, images):
    """FixMatch's network in plain operations, with ReLU: only the very first shortcut is activated."""
    weight, x = model.get_parameter, F.conv2d(images, model.get_parameter("stem.weight"), padding=1)
    for number in range(12):
        block, stride = f"stages.{number}", 2 if number in (4, 8) else 1
        a = normalised(x, *norm_of(model, f"{block}.bn1")).relu()
        y = F.conv2d(a, weight(f"{block}.conv1.weight"), stride=stride, padding=1)
        y = normalised(y, *norm_of(model, f"{block}.bn2")).relu()
        y = F.conv2d(y, weight(f"{block}.conv2.weight"), padding=1)
        if number % 4 == 0:
            x = F.conv2d(a if number == 0 else x, weight(f"{block}.shortcut.weight"), stride=stride)
        x = x + y
    x = normalised(x, *norm_of(model, "stages.12")).relu()
    return x.mean((2, 3)) @ weight("classifier.weight").T + weight("classifier.bias")


@pytest.mark.parametrize("width", [4, 8])
def test_wide_resnets_compute_fixmatchs_formula(width):
    model = shaken(make("wrn28", width=width).double())
    images = torch.rand(2, 3, 16, 16, dtype=torch.float64)
    torch.testing.assert_close(model(images), wide_logits(model, images))


def test_wide_resnets_remember_statistics_as_fixmatchs_code_does():
    norms = [m for m in make("wrn28").modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert len(norms) == 25 and {norm.momentum for norm in norms} == {0.001}


def test_wide_resnets_have_the_known_sizes():
    assert count("wrn28") == 1_467_610  # WRN-28-2, as FixMatch's code prints it
    assert round(count("wrn28", classes=100, width=128) / 1e6, 1) == 23.4


def test_resnet34_is_torchvisions_but_for_the_stem():
    """The same layers in the same order, behind a 3 x 3 convolution in place of a 7 x 7."""
    ours = build(Network(name="resnet34"), 3, 10, 0)
    theirs = torchvision.models.resnet34(num_classes=10)
    assert [p.shape for p in ours.parameters()][1:] == [p.shape for p in theirs.parameters()][1:]
    sizes = [sum(p.numel() for p in model.parameters()) for model in (ours, theirs)]
    assert sizes[0] == sizes[1] - conv(3, 64, 7) + conv(3, 64) == 21_282_122


def test_resnet34_computes_what_torchvisions_does_behind_the_same_stem():
    ours = build(Network(name="resnet34"), 3, 10, 0)
    theirs = torchvision.models.resnet34(num_classes=10)
    theirs.conv1, theirs.maxpool = torch.nn.Conv2d(3, 64, 3, bias=False), torch.nn.Identity()
    theirs.load_state_dict(dict(zip(theirs.state_dict(), ours.state_dict().values(), strict=True)))
    images = torch.randn(2, 3, 20, 20)
    torch.testing.assert_close(ours.eval()(images), theirs.eval()(images))


def test_resnet34_does_not_pad_its_stem():
    assert make("resnet34").stem(torch.zeros(2, 3, 32, 32)).shape == (2, 4, 30, 30)


def test_preact_resnet34_has_the_convolutions_of_resnet34():
    assert count("preact-resnet34") == preact_size(3, 10, 64, (3, 4, 6, 3))
    nets = [build(Network(name=name), 3, 10, 0) for name in ("preact-resnet34", "resnet34")]
    shapes = [sorted(tuple(p.shape) for p in net.parameters() if p.ndim == 4) for net in nets]
    assert shapes[0] == shapes[1]
    last = nets[0].stages[-1](torch.randn(2, 512, 4, 4))
    assert bool((last < 0).any())  # the sum is the last operation, no activation after it


def experts_size(classes, w):
    """ResNet-32's stem and first stage; three times the others with 3/4 of the channels."""
    block = [conv(w, w), norm(w), conv(w, w), norm(w)]
    one, before = [], w
    for width in (w * 3 // 2, w * 3):
        one += [conv(before, width), norm(width), conv(width, width), norm(width)]
        one += 4 * [conv(width, width), norm(width), conv(width, width), norm(width)]
        before = width
    return conv(3, w) + norm(w) + 5 * sum(block) + 3 * (sum(one) + 3 * w * classes)


def test_three_experts_have_the_size_of_their_parts():
    for classes in (10, 100):
        assert count("resnet32", classes=classes, head="experts") == experts_size(classes, 16)
    assert count("resnet32", width=8, head="experts") == experts_size(10, 8)
    one = [conv(32, 48), norm(48), conv(48, 48), norm(48), 48 * 10]
    assert count("small-cnn", head="experts") == conv(3, 32) + norm(32) + 3 * sum(one)


@pytest.mark.parametrize(("name", "width"), [("small-cnn", 64), ("resnet32", 64), ("resnet34", 512)])
def test_heads_have_the_size_of_their_parts(name, width):
    linear = count(name)
    assert count(name, head="cosine") == linear - 10  # no bias
    assert count(name, head="probe") == linear + width * width + width + width * 128 + 128


def test_small_cnn_has_the_size_of_three_convolutions():
    layers = [conv(1, 32), norm(32), conv(32, 64), norm(64), conv(64, 64), norm(64), 64 * 10, 10]
    assert count("small-cnn", channels=1) == sum(layers)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("side", "classes"), [(32, 100), (8, 10)])
@pytest.mark.parametrize("name", NAMES)
def test_any_picture_becomes_one_logit_a_class(name, side, classes, channels):
    model = build(Network(name=name, width=4), channels, classes, 0)
    images = torch.randn(3, channels, side, side)
    for training in (True, False):
        z = model.train(training)(images)
        assert z.shape == (3, classes)
        assert bool(torch.isfinite(z).all())
    assert torch.equal(model.classifier(model.embed(images)), z)
    assert model(images[:1]).shape == (1, classes)  # a single picture, in evaluation mode


def test_the_names_in_a_checkpoint_stay():
    """A published model or a teacher of an earlier run is read by these names."""
    tops = {
        name: list(dict.fromkeys(key.partition(".")[0] for key in make(name).state_dict())) for name in NAMES
    }
    assert tops.pop("fast-cnn") == ["offset", "groups", "classifier"]
    assert tops.pop("small-cnn") == ["features", "classifier"]
    assert tops.pop("vgg16-bn") == tops.pop("small-vgg") == ["features", "hidden", "classifier"]
    assert all(names == ["stem", "stages", "classifier"] for names in tops.values())
    assert [key for key in make("small-cnn").state_dict() if "num" not in key and "running" not in key] == [
        *("features.0.weight", "features.1.weight", "features.1.bias"),
        *("features.3.weight", "features.4.weight", "features.4.bias"),
        *("features.6.weight", "features.7.weight", "features.7.bias"),
        *("classifier.weight", "classifier.bias"),
    ]


@pytest.mark.parametrize("towers", [1, 2])
@pytest.mark.parametrize(("name", "head"), FORMS)
def test_a_head_and_towers_decide_the_shape_while_training_and_nothing_after(name, head, towers):
    model = make(name, head, towers)
    images = torch.randn(3, 3, 8, 8)
    assert model(images).shape == (3, *([2] if towers == 2 else []), *TRAINED[head])
    assert model.eval()(images).shape == (3, 10)


def is_identity(weight):
    """Whether a convolution passes on its inputs as they are, which nobody draws."""
    return weight.ndim == 4 and torch.equal(weight, torch.nn.init.dirac_(torch.empty_like(weight)))


@pytest.mark.parametrize("towers", [1, 2])
@pytest.mark.parametrize(("name", "head"), FORMS)
def test_the_seed_decides_every_weight_and_the_global_generator_is_left_alone(name, head, towers):
    torch.manual_seed(7)
    before = torch.get_rng_state()
    first = make(name, head, towers, seed=1).state_dict()
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(5)  # whatever was drawn in between
    second, other = (make(name, head, towers, seed).state_dict() for seed in (1, 2))
    assert all(torch.equal(first[key], second[key]) for key in first)
    drawn = [key for key, t in first.items() if t.ndim > 1 and not is_identity(t)]
    assert all(not torch.equal(first[key], other[key]) for key in drawn)


def test_option_a_shortcuts_subsample_and_pad_with_zero_channels():
    """With its residual branch silenced, a block that halves the picture shows its bare shortcut."""
    from cmw_pipeline.models.resnet32 import BasicBlock

    block = BasicBlock(2, 6, 2).eval()
    torch.nn.init.zeros_(block.bn2.weight)
    x = torch.rand(1, 2, 8, 8)
    out = block(x).detach()
    assert out.shape == (1, 6, 4, 4)
    assert torch.equal(out[:, 2:4], x[:, :, ::2, ::2])
    assert float(out[:, [0, 1, 4, 5]].abs().max()) == 0.0


@pytest.mark.parametrize("towers", [1, 2])
@pytest.mark.parametrize(("name", "head"), FORMS)
def test_every_parameter_gets_a_gradient(name, head, towers):
    model = make(name, head, towers)
    model(torch.randn(4, 3, 8, 8)).square().sum().backward()
    assert [key for key, p in model.named_parameters() if p.grad is None or not p.grad.abs().any()] == []


# --- heads


@pytest.mark.parametrize("head", ["cosine", "probe"])
@pytest.mark.parametrize("name", NAMES)
def test_a_head_changes_no_weight_of_the_trunk(name, head):
    plain, other = make(name).state_dict(), make(name, head).state_dict()
    trunk = [key for key in plain if not key.startswith("classifier.")]
    assert [key for key in other if not key.startswith("classifier.")] == trunk
    assert all(torch.equal(plain[key], other[key]) for key in trunk)


def test_a_head_that_does_not_exist_is_named():
    with pytest.raises(ConfigError, match="no head 'cosin'"):
        make("small-cnn", "cosin")
    for name in set(NAMES) - set(EXPERTS):
        with pytest.raises(ConfigError, match=f"'{name}' has no form with three experts"):
            make(name, "experts")


def test_cosine_logits_are_30_times_a_cosine():
    torch.manual_seed(0)
    head = CosineHead(5, 4).double()
    features = torch.randn(6, 5, dtype=torch.float64)
    z = head(features)
    expected = 30 * torch.cosine_similarity(features[:, None], head.weight[None], dim=2)
    torch.testing.assert_close(z, expected)
    for factor in (1e-3, 7.0, 1e4):
        torch.testing.assert_close(head(factor * features), z)
    assert float(z.detach().abs().max()) < 30
    best = head(3 * head.weight)
    torch.testing.assert_close(best.diagonal(), torch.full((4,), 30.0, dtype=torch.float64))


def test_cosine_vectors_start_with_length_1_and_may_grow_without_effect():
    torch.manual_seed(0)
    head = CosineHead(64, 100)
    torch.testing.assert_close(head.weight.norm(dim=1), torch.ones(100))
    features = torch.randn(3, 64)
    z = head(features)
    head.weight.data *= torch.rand(100, 1) + 0.5
    torch.testing.assert_close(head(features), z)


def test_features_that_are_all_zero_give_finite_logits_and_gradients():
    head = CosineHead(5, 4)
    features = torch.zeros(2, 5, requires_grad=True)
    z = head(features)
    z.sum().backward()
    assert torch.equal(z, torch.zeros(2, 4))
    assert bool(torch.isfinite(features.grad).all() & torch.isfinite(head.weight.grad).all())


@pytest.mark.parametrize("name", sorted(EXPERTS))
def test_the_prediction_of_experts_is_the_mean_of_their_logits(name):
    model = make(name, "experts").eval()
    images = torch.randn(3, 3, 8, 8)
    mean = model(images)
    model.classifier.train()  # the head alone: normalisation stays as it is
    each = model(images)
    torch.testing.assert_close(mean, each.mean(dim=1))
    assert not torch.equal(each[:, 0], each[:, 1])
    assert not torch.equal(each[:, 1], each[:, 2])


@pytest.mark.parametrize("name", sorted(EXPERTS))
def test_an_expert_s_loss_reaches_what_is_shared_and_its_own_part_only(name):
    model = make(name, "experts")
    model(torch.randn(4, 3, 8, 8))[:, 1].square().sum().backward()
    reached = {key for key, p in model.named_parameters() if p.grad is not None and p.grad.abs().any()}
    others = ("experts.0", "experts.2")
    assert reached == {key for key, _ in model.named_parameters() if not any(o in key for o in others)}


def test_each_expert_reads_its_own_features():
    head = ExpertHead(5, 4)
    features = torch.randn(2, 3, 5)
    z = head(features)
    for k, expert in enumerate(head.experts):
        assert torch.equal(z[:, k], expert(features[:, k]))


@pytest.mark.parametrize("name", NAMES)
def test_the_probe_s_loss_gives_no_gradient_to_the_trunk(name):
    model = make(name, "probe")
    images = torch.randn(4, 3, 8, 8)
    model(images)[:, :10].square().sum().backward()
    reached = {key for key, p in model.named_parameters() if p.grad is not None and p.grad.abs().any()}
    assert reached == {"classifier.linear.weight", "classifier.linear.bias"}
    model.zero_grad()
    model(images)[:, 10:].square().sum().backward()
    idle = {key for key, p in model.named_parameters() if p.grad is None or not p.grad.abs().any()}
    assert idle == {"classifier.linear.weight", "classifier.linear.bias"}


# --- twins


@pytest.mark.parametrize(("name", "head"), FORMS)
def test_twins_differ_and_the_first_is_the_network_alone(name, head):
    twins, alone = make(name, head, towers=2), make(name, head).state_dict()
    first, second = (tower.state_dict() for tower in twins.towers)
    assert all(torch.equal(first[key], alone[key]) for key in alone)
    drawn = [key for key, t in first.items() if t.ndim > 1 and not is_identity(t)]
    assert all(not torch.equal(first[key], second[key]) for key in drawn)


@pytest.mark.parametrize("head", ["linear", "cosine", "experts", "probe"])
def test_the_prediction_of_twins_is_the_mean_of_their_logits(head):
    twins = make("small-cnn", head, towers=2).eval()
    images = torch.randn(3, 3, 8, 8)
    torch.testing.assert_close(twins(images), (twins.towers[0](images) + twins.towers[1](images)) / 2)
    each = twins.train()(images)
    for k, tower in enumerate(twins.towers):
        torch.testing.assert_close(each[:, k], tower(images))


# --- what the look-ahead needs


@pytest.mark.parametrize("towers", [1, 2])
@pytest.mark.parametrize(("name", "head"), SMALL)
def test_forward_mode_goes_through_every_head(name, head, towers):
    """In double precision: PyTorch's forward mode, the look-ahead's own tangent and double backward agree."""
    model = make(name, head, towers).double()
    torch.manual_seed(3)
    images = torch.randn(4, 3, 8, 8, dtype=torch.float64)
    weights = {key: p.detach() for key, p in model.named_parameters()}
    move = {key: torch.randn_like(p) for key, p in weights.items()}

    def network(w):
        return functional_call(model, (w, copied_buffers(model)), (images,))

    z, tangent = jvp(network, (weights,), (move,))
    assert z.dtype == tangent.dtype == torch.float64
    recorded = Forward(model, images).tangent(move)
    torch.testing.assert_close(recorded, tangent, rtol=1e-10, atol=1e-10)

    def positional(*w):
        return network(dict(zip(weights, w, strict=True)))

    twice = torch.autograd.functional.jvp(positional, tuple(weights.values()), tuple(move.values()))[1]
    torch.testing.assert_close(twice, tangent, rtol=1e-9, atol=1e-9)


def test_the_tangent_of_a_probe_s_logits_knows_nothing_of_the_trunk():
    model = make("small-cnn", "probe").double()
    images = torch.randn(4, 3, 8, 8, dtype=torch.float64)
    move = {key: torch.randn_like(p) for key, p in model.named_parameters()}
    move |= {key: torch.zeros_like(t) for key, t in move.items() if "linear" in key}
    tangent = Forward(model, images).tangent(move)
    assert not tangent[:, :10].any()
    assert bool(tangent[:, 10:].any())


def test_the_fast_network_s_first_filters_whiten_natural_pictures():
    """Of two photographs as small as CIFAR's, all twelve responses come out about equally large."""
    photographs = torch.from_numpy(np.stack(load_sample_images().images)).permute(0, 3, 1, 2).float() / 255
    pictures = torch.nn.functional.avg_pool2d(photographs, 12)
    pictures = (pictures - pictures.mean(dim=(0, 2, 3), keepdim=True)) / pictures.std(
        dim=(0, 2, 3), keepdim=True
    )
    patches = torch.nn.functional.unfold(pictures, 2).transpose(1, 2).reshape(-1, 12)
    before = torch.linalg.eigvalsh(patches.T.double() @ patches.double()).sqrt()
    after = torch.nn.functional.conv2d(pictures, make("fast-cnn").whitening).std(dim=(0, 2, 3))
    assert after.max() / after.min() < before[-1] / before[0] / 10


def test_the_fast_network_s_convolutions_pass_their_inputs_on_at_the_start():
    convolutions = [m for m in make("fast-cnn").groups.modules() if isinstance(m, torch.nn.Conv2d)]
    assert len(convolutions) == 6
    for convolution in convolutions:
        images = torch.randn(2, convolution.in_channels, 6, 6)
        common = min(convolution.in_channels, convolution.out_channels)
        assert torch.allclose(convolution(images)[:, :common], images[:, :common], atol=1e-5)


def test_the_fast_network_s_shifts_learn_64_times_as_fast_under_sgd():
    norm = next(m for m in make("fast-cnn").groups.modules() if isinstance(m, torch.nn.BatchNorm2d))
    images = torch.randn(8, norm.num_features, 3, 3)
    slope = torch.randn(norm.num_features)
    before = norm(images)
    (before.mean(dim=(0, 2, 3)) * slope).sum().backward()
    torch.optim.SGD(norm.parameters(), lr=0.01).step()
    moved = (norm(images) - before).mean(dim=(0, 2, 3))
    assert torch.allclose(moved, -64 * 0.01 * slope, rtol=1e-4)
    assert [name for name, _ in norm.named_parameters()] == ["shift"], "it has no scale"
