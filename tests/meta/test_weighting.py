"""The exported weighting function: what was learned is what is loaded, and nothing else is."""

import json
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import nn

from cmw_pipeline import load_weighting
from cmw_pipeline.errors import ConfigError, IntegrityError, NumericsError
from cmw_pipeline.meta.weight_net import WeightNet
from cmw_pipeline.meta.weighting import Weighting, save_weighting

PUBLISHED = Path(__file__).parents[3] / "shared" / "data" / "published_vnet" / "vnet_119.pth"
SMALL, MODERATE, LARGE = 0, 1, 2
CLASS_GROUPS = [2, 2, 1, 0]


def learned(hidden=100, groups=3, loss_max=4.0):
    torch.manual_seed(0)
    net = WeightNet(hidden, groups)
    net.loss_max.fill_(loss_max)
    return net


@pytest.fixture
def folder(tmp_path):
    save_weighting(tmp_path, learned(), CLASS_GROUPS, {"run": "digits/asym-0.4/cmw-net/digits-cnn/seed0"})
    return tmp_path


def edit_card(folder, **changes):
    card = json.loads((folder / Weighting.CARD).read_text())
    for key, value in changes.items():
        if value is ...:
            del card[key]
        else:
            card[key] = value
    (folder / Weighting.CARD).write_text(json.dumps(card))


def by_hand(net, losses, groups):
    """The formula itself, in float64 numpy."""
    state = {name: tensor.double().numpy() for name, tensor in net.state_dict().items()}
    hidden = np.maximum(losses[:, None] * state["trunk.weight"].T + state["trunk.bias"], 0)
    z = hidden @ state["heads.weight"].T + state["heads.bias"]
    return 1 / (1 + np.exp(-z[np.arange(len(groups)), groups]))


def test_reload_equals_the_original_on_a_grid(folder):
    net, weigh = learned(), load_weighting(folder)
    losses = torch.linspace(0, 4, 81)
    for label, group in enumerate(CLASS_GROUPS):
        labels = torch.full((81,), label)
        found = weigh(losses, labels)
        with torch.no_grad():
            assert torch.equal(found, net.eval()(losses, torch.full((81,), group)))
        expected = by_hand(net, losses.double().numpy(), np.full(81, group))
        np.testing.assert_allclose(found.numpy(), expected, atol=1e-6)


def test_the_published_shape_has_503_parameters(folder):
    assert sum(p.numel() for p in learned().parameters()) == 503
    assert sum(p.numel() for p in load_weighting(folder).parameters()) == 503


def test_saving_twice_gives_the_same_bytes(folder, tmp_path_factory):
    other = tmp_path_factory.mktemp("again")
    save_weighting(other, learned(), CLASS_GROUPS, {"run": "digits/asym-0.4/cmw-net/digits-cnn/seed0"})
    for name in (Weighting.TENSORS, Weighting.CARD):
        assert (other / name).read_bytes() == (folder / name).read_bytes()


def test_the_card_says_what_the_function_is(folder):
    card = load_weighting(str(folder)).card
    assert card["groups"] == ["small", "moderate", "large"]
    assert card["class_groups"] == CLASS_GROUPS
    assert card["hidden"] == 100
    assert card["source"] == {"run": "digits/asym-0.4/cmw-net/digits-cnn/seed0"}


def test_a_run_in_place_of_its_function_is_told_how_to_get_it(tmp_path):
    (tmp_path / "method.safetensors").write_bytes(b"")
    with pytest.raises(IntegrityError, match="`cmw export NAME` writes its function"):
        load_weighting(tmp_path)


# --- the published function

# Losses, and the weights of the groups large, small and moderate, to the digits known of them.
TABLE = """
0   .8185 .9329 .4876
0.1 .7957 .9358 .4829
0.5 .6656 .9469 .4670
1   .4239 .9591 .4658
1.5 .2133 .9687 .4656
2   .1016 .9772 .4579
3   .0259 .9895 .4286
5   .0019 .9984 .3701
7   .0002 .9998 .3186
10  .0000 1.000 .2540
"""
needs_published = pytest.mark.skipif(
    not PUBLISHED.exists(), reason="the published vnet_119.pth does not lie in ../shared/data/published_vnet"
)


@needs_published
def test_the_published_function_has_its_published_values():
    weigh = load_weighting(PUBLISHED).for_classes([10, 100, 1000])  # classes 0, 1, 2: small, moderate, large
    rows = np.array([[float(word) for word in line.split()] for line in TABLE.strip().splitlines()])
    losses = torch.from_numpy(rows[:, 0]).float()
    for column, group in ((1, LARGE), (2, SMALL), (3, MODERATE)):
        found = weigh(losses, torch.full((len(losses),), group))
        np.testing.assert_allclose(found.numpy(), rows[:, column], atol=0.5e-4 + 1e-7)
    assert sum(p.numel() for p in weigh.parameters()) == 503
    assert int(weigh.clamped) == 0


@needs_published
def test_the_published_function_asks_for_class_counts_first():
    with pytest.raises(ConfigError, match="no class groups") as raised:
        load_weighting(PUBLISHED)(torch.ones(1), torch.zeros(1, dtype=torch.int64))
    assert ".for_classes(counts)" in raised.value.hint


@needs_published
def test_an_infinite_loss_under_the_published_function_is_refused_not_weighted_nan():
    """The published file does not say which losses it was learned on, so nothing is clamped."""
    weigh = load_weighting(PUBLISHED).for_classes([10, 100, 1000])
    with pytest.raises(NumericsError):
        weigh(torch.tensor([torch.inf]), torch.tensor([1]))


# --- in anybody's training loop


def test_three_lines_suffice_in_a_plain_training_loop(folder):
    torch.manual_seed(1)
    model = nn.Linear(5, 4)
    x, y = torch.randn(32, 5), torch.arange(32) % 4
    before = model.weight.detach().clone()

    weigh = load_weighting(folder)
    loss = F.cross_entropy(model(x), y, reduction="none")
    (weigh(loss, y) * loss).mean().backward()

    v = by_hand(learned(), loss.detach().double().numpy(), np.array(CLASS_GROUPS)[y])
    p = torch.softmax(x @ before.T + model.bias.detach(), 1)
    p[torch.arange(32), y] -= 1
    expected = (torch.from_numpy(v).float()[:, None] * p).T @ x / 32
    torch.testing.assert_close(model.weight.grad, expected, rtol=1e-4, atol=1e-6)


def test_for_classes_groups_another_datasets_classes_by_their_own_sizes(folder):
    original = load_weighting(folder)
    other = original.for_classes([9, 5000, 4900, 800, 11, 790])
    assert other.groups.tolist() == [SMALL, LARGE, LARGE, MODERATE, SMALL, MODERATE]
    assert original.groups.tolist() == CLASS_GROUPS
    losses = torch.full((6,), 1.5)
    expected = by_hand(learned(), np.full(6, 1.5), np.array([0, 2, 2, 1, 0, 1]))
    np.testing.assert_allclose(other(losses, torch.arange(6)).numpy(), expected, atol=1e-6)


def test_losses_beyond_the_learned_range_are_clamped_and_counted(folder):
    weigh = load_weighting(folder)
    labels = torch.zeros(5, dtype=torch.int64)
    found = weigh(torch.tensor([0.5, 4.0, 4.1, 50.0, torch.inf]), labels)
    edge = by_hand(learned(), np.array([4.0]), np.array([LARGE]))[0]
    np.testing.assert_allclose(found[1:].numpy(), edge, atol=1e-6)
    assert int(weigh.clamped) == 3
    weigh(torch.tensor([9.0]), labels[:1])
    assert int(weigh.clamped) == 4
    assert float(weigh.net.loss_max) == 4.0


def test_a_nan_loss_is_refused(folder):
    with pytest.raises(NumericsError, match="NaN") as raised:
        load_weighting(folder)(torch.tensor([1.0, torch.nan]), torch.tensor([0, 1]))
    assert raised.value.exit_code == 4


@pytest.mark.parametrize("label", [4, -1])
def test_a_label_it_has_no_group_for_is_refused_with_the_way_out(folder, label):
    with pytest.raises(ConfigError, match=f"label {label} .* 4 classes") as raised:
        load_weighting(folder)(torch.ones(2), torch.tensor([0, label]))
    assert ".for_classes(counts)" in raised.value.hint


def test_an_empty_batch_has_no_weights(folder):
    assert load_weighting(folder)(torch.ones(0), torch.zeros(0, dtype=torch.int64)).shape == (0,)


def test_it_is_frozen_whatever_module_it_is_part_of(folder):
    weigh = load_weighting(folder)
    holder = nn.ModuleDict({"weigh": weigh, "drop": nn.Dropout()}).train()
    assert holder["drop"].training
    assert not any(module.training for module in weigh.modules())
    loss = torch.tensor([1.0, 9.0], requires_grad=True)
    weights = weigh(loss, torch.tensor([0, 3]))
    assert not weights.requires_grad
    (weights * loss).sum().backward()
    assert torch.equal(loss.grad, weights)
    assert [p for p in weigh.parameters() if p.requires_grad or p.grad is not None] == []
    assert float(weigh.net.loss_max) == 4.0


# --- losses, labels and counts as people have them

INTEGERS = (torch.uint8, torch.int8, torch.int16, torch.uint16, torch.int32, torch.uint32, torch.int64)
FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
FOUR_LOSSES = torch.tensor([0.25, 0.5, 1.0, 2.0])
"""As many as there are classes: a mask over classes would have their length too."""


@pytest.mark.parametrize("dtype", INTEGERS, ids=str)
def test_a_label_means_its_class_in_every_integer_dtype(folder, dtype):
    labels = [3, 2, 1, 3]
    expected = by_hand(learned(), FOUR_LOSSES.double().numpy(), np.array(CLASS_GROUPS)[labels])
    found = load_weighting(folder)(FOUR_LOSSES, torch.tensor(labels, dtype=dtype))
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-6)


def test_labels_may_be_a_list_or_an_array(folder):
    weigh, labels = load_weighting(folder), [3, 2, 1, 3]
    expected = weigh(FOUR_LOSSES, torch.tensor(labels))
    assert torch.equal(weigh(FOUR_LOSSES, labels), expected)
    assert torch.equal(weigh(FOUR_LOSSES, np.array(labels, np.uint16)), expected)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_weights_have_the_losses_dtype_and_a_value_no_less_exact(folder, dtype):
    labels = torch.tensor([3, 2, 1, 0])
    expected = by_hand(learned(), FOUR_LOSSES.double().numpy(), np.array(CLASS_GROUPS)[labels])
    found = load_weighting(folder)(FOUR_LOSSES.to(dtype), labels)
    assert found.dtype == dtype
    tolerance = max(torch.finfo(dtype).eps, 1e-6)
    np.testing.assert_allclose(found.double().numpy(), expected, atol=tolerance)


def test_autocast_does_not_make_a_weight_less_exact(folder):
    weigh, labels = load_weighting(folder), torch.tensor([3, 2, 1, 0])
    expected = weigh(FOUR_LOSSES, labels)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(weigh(FOUR_LOSSES, labels), expected)


def test_a_function_in_half_precision_takes_losses_of_every_precision(folder):
    weigh = load_weighting(folder)
    expected = weigh(FOUR_LOSSES, [3, 2, 1, 0])
    weigh.half()
    for dtype in FLOATS:
        found = weigh(FOUR_LOSSES.to(dtype), [3, 2, 1, 0])
        assert found.dtype == dtype
        torch.testing.assert_close(found.float(), expected, atol=5e-3, rtol=0)


@pytest.mark.parametrize(
    ("loss", "label"),
    [
        (FOUR_LOSSES, torch.tensor([True, False, True, True])),
        (FOUR_LOSSES, torch.tensor([0.0, 1.0, 2.0, 3.0])),
        (FOUR_LOSSES, F.one_hot(torch.tensor([0, 1, 2, 3]))),
        (FOUR_LOSSES, torch.tensor([[0], [1], [2], [3]])),
        (FOUR_LOSSES, torch.tensor([0, 1, 2])),
        (FOUR_LOSSES, ["cat", "dog", "cat", "dog"]),
        (FOUR_LOSSES, None),
        (FOUR_LOSSES[:, None], torch.tensor([0, 1, 2, 3])),
        (FOUR_LOSSES.mean(), torch.tensor([0, 1, 2, 3])),
        (torch.ones(4, 2, 2), torch.tensor([0, 1, 2, 3])),
        (torch.tensor([1, 2, 3, 4]), torch.tensor([0, 1, 2, 3])),
        ([0.5, 1.0, 1.0, 2.0], torch.tensor([0, 1, 2, 3])),
    ],
)
def test_what_is_not_one_float_and_one_class_number_a_sample_is_refused(folder, loss, label):
    with pytest.raises(ConfigError, match=r"expected|not class numbers"):
        load_weighting(folder)(loss, label)


@pytest.mark.parametrize(
    "counts",
    [
        (500, 200, 50, 5),
        np.array([500, 200, 50, 5], np.uint16),
        np.array([500, 200, 50, 5], np.float16),
        torch.tensor([500, 200, 50, 5], dtype=torch.int32),
        torch.tensor([500, 200, 50, 5]).bfloat16(),
        torch.tensor([500.0, 200, 50, 5], requires_grad=True),
    ],
)
def test_counts_of_every_kind_of_number_group_alike(folder, counts):
    weigh = load_weighting(folder)
    assert weigh.for_classes(counts).groups.tolist() == weigh.for_classes([500, 200, 50, 5]).groups.tolist()


@pytest.mark.parametrize(
    "counts",
    [
        [],
        [0, 0, 0, 0],
        [-1, 3, 4, 5],
        [500, 200, float("nan"), 5],
        [500, 200, float("inf"), 5],
        [500, 200, 50.5, 5],
        [[500, 200], [50, 5]],
        [[500, 200], [50]],
        500,
        [True, False],
        ["500", "200"],
        {0: 500, 1: 200},
        None,
        torch.tensor([500.0, torch.nan]),
    ],
)
def test_counts_that_no_training_set_can_have_are_refused(folder, counts):
    with pytest.raises(ConfigError, match=r"class counts.*expected one whole number >= 0 for each class"):
        load_weighting(folder).for_classes(counts)


# --- tampering


@pytest.mark.parametrize(
    "changes",
    [
        {"groups": ["small", "large"]},
        {"groups": ...},
        {"groups": 3},
        {"class_groups": [0, 1, 3]},
        {"class_groups": [0, -1]},
        {"class_groups": [0, 0.5]},
        {"class_groups": "small"},
        {"class_groups": [[0], [1]]},
        {"class_groups": [None]},
        {"class_groups": {"0": 1}},
        {"class_groups": ...},
        {"format": 2},
        {"format": ...},
    ],
)
def test_a_tampered_card_is_refused(folder, changes):
    edit_card(folder, **changes)
    with pytest.raises(IntegrityError, match=r"card\.json") as raised:
        load_weighting(folder)
    assert raised.value.exit_code == 3


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "\x00\xff", '{"format": 1}', "1"])
def test_a_card_that_is_no_card_is_refused(folder, text):
    (folder / Weighting.CARD).write_bytes(text.encode("latin1"))
    with pytest.raises(IntegrityError):
        load_weighting(folder)


@pytest.mark.parametrize(
    "change",
    [
        {"heads.weight": torch.zeros(3, 99)},
        {"heads.bias": torch.zeros(2)},
        {"trunk.weight": torch.zeros(100, 2)},
        {"trunk.bias": torch.zeros(())},
        {"loss_max": torch.zeros(1)},
        {"more": torch.zeros(1)},
        {"heads.bias": None},
        {"heads.bias": torch.full((3,), torch.nan)},
        {"loss_max": torch.tensor(torch.nan)},
        {"heads.bias": torch.zeros(0), "heads.weight": torch.zeros(0, 100)},
    ],
)
def test_tampered_tensors_are_refused(folder, change):
    tensors = {
        name: t for name, t in (load_file(folder / Weighting.TENSORS) | change).items() if t is not None
    }
    save_file(tensors, folder / Weighting.TENSORS)
    with pytest.raises(IntegrityError) as raised:
        load_weighting(folder)
    assert raised.value.message.startswith(f"{folder}: ")


@pytest.mark.parametrize("damage", [b"", b"not safetensors at all", None])
def test_a_damaged_or_missing_tensor_file_is_refused(folder, damage):
    if damage is None:
        (folder / Weighting.TENSORS).unlink()
    else:
        (folder / Weighting.TENSORS).write_bytes(damage)
    with pytest.raises(IntegrityError):
        load_weighting(folder)


def test_a_path_with_nothing_at_it_is_refused(tmp_path):
    with pytest.raises(IntegrityError, match="nowhere"):
        load_weighting(tmp_path / "nowhere")


def test_the_published_state_dict_is_the_function_that_it_holds(tmp_path):
    """One hidden layer, and a head a scale: 0 for large classes, 1 for small, 2 for moderate ones."""
    rng, heads = np.random.default_rng(0), {"small": 1, "moderate": 2, "large": 0}
    state = {
        "feature.layer.0.weight": rng.normal(size=(100, 1)),
        "feature.layer.0.bias": rng.normal(size=100),
    }
    for k in range(3):
        state[f"classfier.layers.{k}.0.weight"] = rng.normal(size=(1, 100)) / 10
        state[f"classfier.layers.{k}.0.bias"] = rng.normal(size=1)
    torch.save({name: torch.tensor(value).float() for name, value in state.items()}, tmp_path / "vnet.pth")
    weigh = load_weighting(tmp_path / "vnet.pth").for_classes([10, 100, 1000])
    losses = np.array([0.3, 2.0, 40.0])
    hidden = np.maximum(
        losses[:, None] * state["feature.layer.0.weight"].T + state["feature.layer.0.bias"], 0
    )
    for label, scale in enumerate(("small", "moderate", "large")):
        head = f"classfier.layers.{heads[scale]}.0"
        expected = 1 / (1 + np.exp(-(hidden @ state[f"{head}.weight"].T + state[f"{head}.bias"])[:, 0]))
        found = weigh(torch.tensor(losses).float(), torch.full((3,), label))
        np.testing.assert_allclose(found, expected, rtol=1e-4)


class Canary:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("how", ["torch", "pickle"])
def test_a_file_with_code_in_it_is_refused_and_the_code_does_not_run(tmp_path, how):
    canary, file = tmp_path / "canary", tmp_path / "vnet.pth"
    if how == "torch":
        torch.save({"feature.layer.0.weight": Canary(canary)}, file)
    else:
        file.write_bytes(pickle.dumps(Canary(canary), protocol=2))
    with pytest.raises(IntegrityError, match=r"vnet\.pth"):
        load_weighting(file)
    assert not canary.exists()
    torch.load(file, weights_only=False) if how == "torch" else pickle.loads(file.read_bytes())
    assert canary.exists()  # the trap was live


@pytest.mark.parametrize(
    "content",
    [
        {},
        [1, 2],
        torch.zeros(3),
        {"feature.layer.0.weight": 3, "feature.layer.0.bias": 4},
        "text",
        {
            "feature.layer.0.weight": torch.zeros(100, 1),
            "feature.layer.0.bias": 4,
            **{f"classfier.layers.{k}.0.weight": torch.zeros(1, 100) for k in range(3)},
            **{f"classfier.layers.{k}.0.bias": torch.zeros(1) for k in range(3)},
        },
        {
            "feature.layer.0.weight": torch.zeros(100, 1),
            "feature.layer.0.bias": torch.zeros(100),
            **{f"classfier.layers.{k}.0.weight": torch.zeros(1, 90) for k in range(3)},
            **{f"classfier.layers.{k}.0.bias": torch.zeros(1) for k in range(3)},
        },
    ],
)
def test_a_state_dict_of_something_else_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "other.pth")
    with pytest.raises(IntegrityError, match=r"other\.pth"):
        load_weighting(tmp_path / "other.pth")
