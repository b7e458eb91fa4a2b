"""The weighting function as an ONNX model, for training loops outside Python and torch."""

import json

import numpy as np
import onnx
from onnx import numpy_helper, parser

from cmw_pipeline.errors import ConfigError
from cmw_pipeline.meta.weighting import WeightingFunction

_GRAPH = """
<ir_version: 8, opset_import: ["": 17]>
weighting (float[B] loss, int64[B] label) => (float[B] weight) {
    known = Min(loss, loss_max)
    column = Unsqueeze(known, axis)
    raw = Gemm<transB = 1>(column, trunk_weight, trunk_bias)
    hidden = Relu(raw)
    scores = Gemm<transB = 1>(hidden, heads_weight, heads_bias)
    heads = Sigmoid(scores)
    group = Gather(class_groups, label)
    place = Unsqueeze(group, axis)
    chosen = GatherElements<axis = 1>(heads, place)
    plain = Squeeze(chosen, axis)
    level = Gather(levels, group)
    weight = Mul(plain, level)
}
"""


def onnx_form(function: WeightingFunction) -> bytes:
    """The model (B,) float32 ``loss``, (B,) int64 ``label`` -> (B,) float32 ``weight``, of opset 17.

    The function's card is its metadata ``card``. Losses above the largest one learned on are clamped to it,
    as by the function; it says nothing about losses that are NaN.

    Raises:
        ConfigError: the function has no class groups yet.
    """
    if len(function.groups) == 0:
        raise ConfigError("this weighting function has no class groups", "call .for_classes(counts) first")
    state = function.net.state_dict()
    tensors = {name.replace(".", "_"): value.float().cpu().numpy() for name, value in state.items()}
    level = tensors.pop("level", np.ones(function.net.num_groups, dtype=np.float32))
    tensors |= {"levels": level, "axis": np.array([1]), "class_groups": function.groups.cpu().numpy()}
    model = parser.parse_model(_GRAPH)
    model.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in tensors.items())
    model.metadata_props.add(key="card", value=json.dumps(function.card))
    onnx.checker.check_model(model, full_check=True)
    content: bytes = model.SerializeToString()
    return content
