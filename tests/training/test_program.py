"""An iteration compiled, in other number formats, or with little memory is the iteration written out."""

import pytest
import torch
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils.flop_counter import FlopCounterMode

from cmw_pipeline.errors import ConfigError
from cmw_pipeline.runtime.signals import StopRequest
from cmw_pipeline.training import program
from cmw_pipeline.training.loop import train
from tests.support.tiny import EACH, LEARNING_PAIRS, options, recipe, state, task
from tests.training.test_resume import assert_equal

STEADY = [pair for pair in EACH if options(pair).steady]


def finished(folder, kind, dropout=0.3, **changes):
    """A run of the tiny task, its recipe changed."""
    run = task(kind, recipe=recipe(**changes))
    final = state(run, kind, dropout)
    train(run, final, StopRequest(), folder)
    return final


def difference(a, b):
    pairs = zip(a.tensors(), b.tensors(), strict=True)
    return max(float((x.double() - y.double()).abs().max()) for x, y in pairs if x.numel())


@pytest.mark.parametrize("kind", STEADY)
def test_the_graph_that_is_compiled_is_the_iteration_and_never_waits_for_the_host(
    tmp_path, kind, monkeypatch
):
    """Traced but not handed to the compiler: bitwise the same, with dropout, mixing, teacher and schedule."""
    graphs = []

    def traced(graph, options):
        graphs.append(graph)
        return graph

    monkeypatch.setattr(torch, "compile", traced)
    plain = finished(tmp_path / "plain", kind)
    assert_equal(finished(tmp_path / "traced", kind, compile=True), plain)
    assert graphs
    for graph in graphs:
        targets = {str(node.target) for node in graph.graph.nodes}
        assert not any("_local_scalar_dense" in target for target in targets)
    turns = 2 if kind == "dynamic-loss" else 1
    assert len(graphs) <= 1 + turns  # one program with a meta step, one without: not one an epoch


def test_a_second_pass_with_dropout_is_refused_in_a_compiled_step(tmp_path, monkeypatch):
    """Its masks would be other ones; without dropout it is the iteration."""
    monkeypatch.setattr(torch, "compile", lambda graph, options: graph)
    with pytest.raises(ConfigError, match="compiled step"):
        finished(tmp_path / "a", "erm/cmw-net", compile=True, low_memory=True)
    plain, traced = (
        finished(tmp_path / name, "erm/cmw-net", dropout=0.0, low_memory=True, compile=name == "traced")
        for name in ("plain", "traced")
    )
    assert_equal(traced, plain)


@pytest.mark.parametrize("kind", ["erm", "erm/cmw-net", "soft-labels/cmw-net"])
@pytest.mark.parametrize("way", [{"low_memory": True}, {"channels_last": True}])
def test_ways_that_only_cost_otherwise(tmp_path, kind, way):
    assert difference(finished(tmp_path / "a", kind), finished(tmp_path / "b", kind, **way)) < 2e-4


@pytest.mark.parametrize("kind", EACH)
def test_every_method_runs_in_bf16_and_leaves_weights_and_memories_in_float32(tmp_path, kind):
    short = finished(tmp_path, kind, precision="bf16")
    dtypes = {tensor.dtype for tensor in short.tensors() if tensor.is_floating_point()}
    assert dtypes <= {torch.float32, torch.float64}
    assert all(torch.isfinite(t).all() for t in short.tensors() if t.is_floating_point())


@pytest.mark.parametrize("kind", ["erm", "erm/cmw-net"])
def test_bf16_is_near(tmp_path, kind):
    plain, short = (finished(tmp_path / name, kind, precision=name) for name in ("fp32", "bf16"))
    assert 0 < difference(plain, short) < 0.5
    ours, theirs = (final.records[-1]["scores"]["test"]["accuracy"] for final in (short, plain))
    assert ours >= theirs - 25


def iteration(kind):
    """A compiled form of one meta iteration on ResNet-32, and what it is fed."""
    from cmw_pipeline.models.resnet32 import ResNet32

    run = task(kind, recipe=recipe(ema=None))
    current = state(run, kind)
    torch.manual_seed(0)
    current.model = ResNet32(3, 4)
    current.optimizer = type(current.optimizer)(current.model.parameters(), run.recipe.optimizer)
    batch = program.Batch(torch.randn(10, 3, 32, 32), torch.arange(10) % 4, torch.arange(10))
    meta = batch if kind in LEARNING_PAIRS else None
    return current, run.recipe, batch, meta


def test_the_meta_step_costs_what_its_arithmetic_says():
    """Forward, virtual backward, meta pass, tangent, real backward: 10 forwards to ERM's 3."""
    flops = {}
    for kind in ("erm", "erm/cmw-net"):
        current, body, batch, meta = iteration(kind)
        with FlopCounterMode(display=False) as counter:
            program.iterate(current, body, batch, meta, 1.0)
        flops[kind] = counter.get_total_flops()
    assert flops["erm/cmw-net"] / flops["erm"] <= 3.35


def test_the_meta_step_launches_few_kernels():
    """Operations that start a kernel on a device; views and the like start none."""
    current, body, batch, _ = iteration("erm/cmw-net")

    def run(tensors):
        again = program.Batch(*tensors)
        program.iterate(current, body, again, again, 1.0, check_finite=False)

    graph = make_fx(run)([batch.images, batch.labels, batch.rows])
    calls = [node.target for node in graph.graph.nodes if node.op == "call_function"]
    views = (
        "alias",
        "detach",
        "view",
        "expand",
        "slice.",
        "select",
        ".t.",
        "unsqueeze",
        "squeeze",
        "getitem",
        "empty",
    )
    kernels = [call for call in calls if not any(view in str(call) for view in views)]
    assert len(kernels) <= 1150
