"""What ``precision: auto`` leaves to the device, and what it does not change."""

import pytest
import torch

from cmw_pipeline.models import registry as models
from cmw_pipeline.training.precision import forward_precision, on_device
from tests.support.tiny import recipe

CPU, GPU = torch.device("cpu"), torch.device("cuda")


def test_a_precision_that_was_chosen_is_nobody_elses_choice():
    for name in ("fp32", "tf32", "bf16"):
        chosen = recipe(precision=name)
        assert on_device(chosen, CPU) == on_device(chosen, GPU) == chosen


@pytest.mark.parametrize(("able", "expected"), [(True, "bf16"), (False, "fp32")])
def test_a_cpu_takes_bfloat16_only_where_it_multiplies_it(able, expected, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True, "avx512_bf16": able})
    ways = on_device(recipe(precision="auto"), CPU)
    assert (ways.precision, ways.channels_last, ways.capture) == (expected, True, False)


def test_a_gpu_takes_tf32_and_one_graph_an_iteration():
    ways = on_device(recipe(precision="auto"), GPU)
    assert (ways.precision, ways.channels_last, ways.capture) == ("tf32", True, True)


def test_the_device_decides_nothing_else():
    asked, ways = recipe(precision="auto"), on_device(recipe(precision="auto"), CPU)
    chosen = {"precision", "channels_last", "capture"}
    assert asked.model_dump(exclude=chosen) == ways.model_dump(exclude=chosen)


def test_logits_in_bfloat16_are_told_apart():
    """Rounded to eight bits, many of a thousand logits would be equal, and the first class would win."""
    torch.manual_seed(0)
    model = models.build(recipe().network, 3, 10, 0).eval()
    with torch.no_grad(), forward_precision("bf16", CPU):
        logits = model(torch.randn(100, 3, 8, 8))
    assert logits.dtype == torch.float32
    assert len(logits.unique()) > 0.9 * logits.numel()
