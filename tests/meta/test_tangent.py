"""The recorded tangent equals PyTorch's forward mode, or is not used."""

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from cmw_pipeline.errors import ConfigError
from cmw_pipeline.meta.record import NoRule
from cmw_pipeline.meta.tangent import Forward, LowMemoryForward
from cmw_pipeline.models.fast_cnn import FastCnn
from cmw_pipeline.models.preact_resnet18 import PreActResNet18
from cmw_pipeline.models.resnet32 import ResNet32
from cmw_pipeline.models.small_cnn import SmallCnn


class Odd(nn.Module):
    """A linear layer followed by whatever the test is about."""

    def __init__(self, tail):
        super().__init__()
        self.linear = nn.Linear(12, 5)
        self.tail = tail

    def forward(self, images):
        return self.tail(self.linear(images.flatten(1)))


def overwritten(z):
    active = F.relu(z)
    active.add_(1.0)  # what the rule of relu needs is gone
    return active * 2


def passes(model, size=32):
    torch.manual_seed(0)
    model = model.double()
    images = torch.randn(4, 3, size, size, dtype=torch.float64)
    forward = Forward(model, images)
    direction = {name: torch.randn_like(p) for name, p in model.named_parameters()}
    return forward, direction


def assert_close(a, b):
    assert float((a - b).abs().max()) <= 1e-12 * float(b.abs().max())


@pytest.mark.parametrize(
    "make",
    [
        lambda: SmallCnn(3, 10, 8),
        lambda: ResNet32(3, 10, 8),
        lambda: PreActResNet18(3, 10, 8),
        lambda: FastCnn(3, 10, 8),
        lambda: torchvision.models.resnet18(num_classes=10),
        lambda: torchvision.models.vgg11_bn(num_classes=10),
    ],
    ids=[
        "small-cnn",
        "resnet32",
        "preact-resnet18",
        "fast-cnn",
        "torchvision resnet18",
        "torchvision vgg11-bn, dropout",
    ],
)
def test_along_the_record_as_by_forward_mode(make):
    forward, direction = passes(make())
    assert_close(forward.replayed(direction), forward.repeated(direction))


@pytest.mark.parametrize(("make", "near"), [(SmallCnn, 0.02), (ResNet32, 0.1), (FastCnn, 0.5)])
def test_in_bfloat16_it_is_there_too_and_as_near_as_that_format_is(make, near):
    """Which of several pixels is the largest is often a tie in that format; fast-cnn pools by the maximum."""
    torch.manual_seed(0)
    model = make(3, 10, 8).to(memory_format=torch.channels_last)
    images = torch.randn(16, 3, 32, 32).contiguous(memory_format=torch.channels_last)
    loss = F.cross_entropy(model(images), torch.arange(16) % 10)
    slopes = torch.autograd.grad(loss, list(model.parameters()))
    direction = dict(zip([name for name, _ in model.named_parameters()], slopes, strict=True))
    exact = Forward(model, images).repeated(direction)
    with torch.autocast("cpu", torch.bfloat16, cache_enabled=False):
        forward = Forward(model, images)
        found = [forward.replayed(direction), forward.repeated(direction)]
    for tangent in found:
        assert float((tangent - exact).norm() / exact.norm()) < near


@pytest.mark.parametrize(
    "tail",
    [
        F.gelu,
        lambda z: F.gelu(z, approximate="tanh") / 9,
        F.relu_,
        lambda z: z.clone().relu_() + z,
        lambda z: 3 * z * z,
        lambda z: z + 2.0,
        lambda z: z.view(5, -1).t(),
    ],
)
def test_small_forms(tail):
    forward, direction = passes(Odd(tail), size=2)
    assert_close(forward.replayed(direction), forward.repeated(direction))


class Cube(torch.autograd.Function):
    """The record sees two multiplications of values that nobody differentiates."""

    generate_vmap_rule = False

    @staticmethod
    def forward(z):
        return z * z * z

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)
        ctx.save_for_forward(*inputs)

    @staticmethod
    def backward(ctx, slope):
        return 3 * ctx.saved_tensors[0] ** 2 * slope

    @staticmethod
    def jvp(ctx, move):
        return 3 * ctx.saved_tensors[0] ** 2 * move


@pytest.mark.parametrize(
    "tail",
    [
        F.silu,
        lambda z: z / z.exp(),
        lambda z: torch.add(z, z, alpha=2),
        overwritten,
        Cube.apply,
        lambda z: torch.cat([Cube.apply(z), Cube.apply(z)], dim=1),
    ],
)
def test_without_a_rule_it_falls_back_and_is_still_exact(tail):
    forward, direction = passes(Odd(tail), size=2)
    with pytest.raises(NoRule):
        forward.replayed(direction)
    assert_close(forward.tangent(direction), forward.repeated(direction))


def test_what_is_detached_does_not_move():
    """As in back-propagation: z * detach(z) has the slope of the first factor only."""
    forward, direction = passes(Odd(lambda z: z * z.detach()), size=2)
    z = forward.model.linear(forward.images.flatten(1))
    moved = forward.images.flatten(1) @ direction["linear.weight"].T + direction["linear.bias"]
    assert_close(forward.replayed(direction), moved * z)


def test_evaluation_mode_has_no_rule_and_falls_back():
    model = SmallCnn(3, 10, 8)
    model.eval()
    forward, direction = passes(model)
    with pytest.raises(NoRule):
        forward.replayed(direction)
    assert_close(forward.tangent(direction), forward.repeated(direction))


def test_a_logit_that_no_direction_moves_stays():
    forward, direction = passes(Odd(lambda z: z), size=2)
    assert torch.count_nonzero(forward.replayed({})) == 0
    assert torch.count_nonzero(forward.replayed(direction)) > 0


class Fickle(nn.Module):
    """Does something else the second time."""

    def __init__(self, later):
        super().__init__()
        self.linear, self.later, self.passes = nn.Linear(3, 4), later, 0

    def forward(self, images):
        self.passes += 1
        logits = self.linear(images)
        return self.later(logits) if self.passes > 1 else logits.relu()


@pytest.mark.parametrize("later", [lambda z: 2 * z.relu(), torch.sigmoid], ids=["more", "other"])
def test_a_second_pass_that_differs_from_the_first_is_not_carried_along(later):
    model, images = Fickle(later), torch.randn(5, 3)
    forward = LowMemoryForward(model, images)
    with pytest.raises(NoRule, match="the second pass differs from the first"):
        forward.replayed({name: torch.randn_like(p) for name, p in model.named_parameters()})
    assert torch.equal(forward.logits, later(model.linear(images)))


def by_double_backward(forward, direction):
    """The tangent of the pass itself, by the derivative of its backward pass in each logit alone."""
    names, weights = zip(*forward.model.named_parameters(), strict=True)
    flat = forward.logits.flatten()
    rows = [torch.autograd.grad(logit, weights, retain_graph=True, allow_unused=True) for logit in flat]
    moves = [direction[name] for name in names]
    sums = [
        sum((slope * move).sum() for slope, move in zip(row, moves, strict=True) if slope is not None)
        for row in rows
    ]
    return torch.stack([torch.as_tensor(value, dtype=flat.dtype) for value in sums]).view_as(forward.logits)


class Tokens(torch.nn.Module):
    """A transformer's layer, whose dropout meets transposed tensors."""

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.TransformerEncoderLayer(12, 2, 16, dropout=0.3, batch_first=True)
        self.linear = torch.nn.Linear(12, 3)

    def forward(self, images):
        with sdpa_kernel(SDPBackend.MATH):
            return self.linear(self.layer(images[:, 0])[:, 0])


def test_the_dropout_of_a_transformer_is_that_of_the_pass():
    """Forward mode draws another mask for what is transposed, whatever the generator says."""
    torch.manual_seed(0)
    model = Tokens().double()
    forward = Forward(model, torch.randn(4, 1, 5, 12, dtype=torch.float64))
    direction = {name: torch.randn_like(p) for name, p in model.named_parameters()}
    assert_close(forward.tangent(direction), by_double_backward(forward, direction))


@pytest.mark.parametrize(
    "tail",
    [
        lambda z: F.pad(z.relu(), (1, 2), value=0.5),
        lambda z: torch.cat([z, z * unseen(z)], dim=1),
        lambda z: F.dropout(z.t(), 0.5).t() + z.sigmoid(),
    ],
    ids=["padded with a half", "a scale without gradient", "dropout of what is transposed"],
)
def test_the_tangent_is_that_of_the_pass_as_autograd_has_it(tail):
    forward, direction = passes(Odd(tail), size=2)
    assert_close(forward.tangent(direction), by_double_backward(forward, direction))


def unseen(z):
    with torch.no_grad():
        return 2 * z


def test_a_second_pass_that_is_not_the_first_is_refused():
    numbers = iter(range(100))
    forward, direction = passes(Odd(lambda z: Cube.apply(z) * next(numbers) + z.exp()), size=2)
    with pytest.raises(ConfigError, match="a second pass of this network gives other logits"):
        forward.repeated(direction)
