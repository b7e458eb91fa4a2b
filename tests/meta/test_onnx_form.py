"""The ONNX form of a weighting function says what the function says."""

import json

import numpy as np
import pytest
import torch

from cmw_pipeline.errors import ConfigError
from cmw_pipeline.meta.weight_net import WeightNet
from cmw_pipeline.meta.weighting import WeightingFunction

pytest.importorskip("onnx", reason="onnx is not installed: pip install 'cmw-pipeline[onnx]'")
runtime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: pip install onnxruntime")

from cmw_pipeline.meta.onnx_form import onnx_form  # noqa: E402  (needs onnx)

CARD = {"normalisation": "mean", "source": {"run": "digits/asym-0.4"}}


def function(groups, loss_max=6.0, levels=None):
    torch.manual_seed(0)
    net = WeightNet(100, groups, levels is not None)
    net.loss_max.fill_(loss_max)
    if levels is not None:
        net.level.copy_(torch.tensor(levels))
    return WeightingFunction(net, np.arange(10) % groups, CARD)


def session(weighting):
    return runtime.InferenceSession(onnx_form(weighting), providers=["CPUExecutionProvider"])


@pytest.mark.parametrize(
    "weighting",
    [function(1), function(3), function(3, np.inf), function(2, levels=[1.5, 0.25])],
    ids=["mw-net", "cmw-net", "published", "bounded levels"],
)
@pytest.mark.parametrize("size", [1, 500])
def test_it_gives_the_same_weights(weighting, size):
    rng = np.random.default_rng(1)
    loss = rng.uniform(0, 20, size).astype(np.float32)
    label = rng.integers(0, 10, size)
    (weight,) = session(weighting).run(None, {"loss": loss, "label": label})
    wanted = weighting(torch.from_numpy(loss), label).numpy()
    assert weight.dtype == np.float32 and weight.shape == (size,)
    assert np.abs(weight - wanted).max() <= 1e-6


def test_it_carries_the_card():
    assert json.loads(session(function(3)).get_modelmeta().custom_metadata_map["card"]) == CARD


def test_a_function_without_class_groups_is_refused():
    weighting = function(3)
    with pytest.raises(ConfigError, match="no class groups"):
        onnx_form(WeightingFunction(weighting.net, None, {}))
