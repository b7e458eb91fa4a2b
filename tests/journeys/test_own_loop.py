"""The examples of docs/own-loop.md, each beside the pipeline's own run on digits at the same seed.

In double precision: Adam's first steps make much of the last digit of a gradient, which another layout of the
same pixels in memory changes.
"""

import copy
import importlib.util
import itertools
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, IterableDataset

from cmw_pipeline import load_weighting
from cmw_pipeline.runtime.seeds import stream_seed
from cmw_pipeline.training import assemble, program
from tests.support.project import made

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
SEED = 3
CELL = f"digits/asym-0.4/cmw-net/short/seed{SEED}"
OPTIONS = {"normalisation": "sum", "weight_net": {"lr": 0.01}, "seed": stream_seed(SEED, "method")}
PARAMS = """
build: []
seeds: [0]
bias_seed: 1
datasets: {digits: {source: digits}}
biases: {}
tables: {}
methods:
  cmw-net:
    kind: erm
    weighting: {kind: cmw-net, meta_set: clean-10, normalisation: sum, weight_net: {lr: 1.0e-2}}
recipes:
  short:
    network: {name: small-cnn, width: 8}
    optimizer: {lr: 0.05, momentum: 0.9, weight_decay: 5.0e-4}
    schedule: {name: constant}
    epochs: 1
    batch_size: 100
"""


def example(name, *libraries):
    for library in libraries:
        pytest.importorskip(library, reason=f"{library} is not installed")
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Own:
    """The pipeline's own run: what it saw, in its order, the network before and after, the weighting."""

    def __init__(self, monkeypatch, network=None):
        self.loader, self.trusted = [], []
        one_step, build = program.training_step, assemble.new_model

        def watched(model, method, optimizer, batch, meta, *rest):
            if not self.loader:
                self.before, self.model, self.method = copy.deepcopy(model), model, method
                self.start = copy.deepcopy(model.state_dict())
                self.class_counts = torch.bincount(method.counted, minlength=method.num_classes)
            self.loader.append((batch.images, batch.labels))
            self.trusted.append((meta.images, meta.labels))
            return one_step(model, method, optimizer, batch, meta, *rest)

        def chosen(options, task, channels, device):
            return build(options, task, channels, device) if network is None else copy.deepcopy(network)

        def remembering(options, problem, seed):
            method = make_method(options, problem, seed)
            method.counted = problem.labels
            return method

        make_method = assemble.methods.build
        with monkeypatch.context() as patch:
            patch.setattr(program, "training_step", watched)
            patch.setattr(assemble, "new_model", chosen)
            patch.setattr(assemble.methods, "build", remembering)
            made("train", CELL)

    @property
    def function(self):
        return dict(self.method.weighting.net.named_parameters())


@pytest.fixture
def single(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(PARAMS)
    for stage, name in (("download", 1), ("inject", 2)):
        made(stage, "/".join(CELL.split("/")[:name]))
    made("metaset", "digits/asym-0.4/clean-10")
    return lambda network=None: Own(monkeypatch, network)


@pytest.fixture
def own(single):
    torch.set_default_dtype(torch.float64)
    yield single
    torch.set_default_dtype(torch.float32)


def assert_equal(model, reweighter, run):
    after = iter(run.model.parameters())
    for weight in model.parameters():
        torch.testing.assert_close(weight, next(after), rtol=0, atol=1e-6)
    for name, weight in reweighter.method.weighting.net.named_parameters():
        torch.testing.assert_close(weight, run.function[name], rtol=0, atol=1e-6)
    assert (
        max(float((run.start[name] - after).abs().max()) for name, after in run.model.state_dict().items())
        > 0.01
    )


def test_a_plain_loop_is_the_pipelines_run_and_what_it_saves_is_what_export_writes(single, tmp_path):
    run = single()
    reweighter = example("plain_loop").train(run.before, run.loader, run.trusted, run.class_counts, **OPTIONS)
    assert_equal(run.before, reweighter, run)
    reweighter.save(tmp_path / "mine")
    made("export", CELL)
    (exported,) = (tmp_path / "results" / "export").glob("**/card.json")
    mine, theirs = load_weighting(tmp_path / "mine"), load_weighting(exported.parent)
    losses, labels = torch.linspace(0, 3, 50, requires_grad=True), torch.arange(50) % 10
    torch.testing.assert_close(mine(losses, labels), theirs(losses, labels), rtol=0, atol=1e-6)
    assert mine.card["normalisation"] == theirs.card["normalisation"] == "sum"
    values = theirs(losses, labels)
    torch.testing.assert_close(theirs.mean(losses, labels), (values * losses).sum() / values.sum())
    made("export", CELL, "--onnx", tmp_path / "weighting.onnx")
    runtime = pytest.importorskip(
        "onnxruntime", reason="onnxruntime is not installed: pip install onnxruntime"
    )
    inputs = {"loss": losses.detach().numpy(), "label": labels.numpy()}
    (weights,) = runtime.InferenceSession(tmp_path / "weighting.onnx").run(None, inputs)
    torch.testing.assert_close(torch.from_numpy(weights), values, rtol=0, atol=1e-6)


def test_lightning_is_the_pipelines_run(own):
    module = example("lightning_module", "lightning")
    run = own()
    loader = DataLoader(run.loader, batch_size=None)
    reweighter = module.train(run.before, loader, run.trusted, run.class_counts, **OPTIONS)
    assert_equal(run.before, reweighter, run)


def test_hugging_faces_trainer_is_the_pipelines_run(own, tmp_path):
    module = example("hugging_face", "transformers", "accelerate")
    from transformers.modeling_outputs import SequenceClassifierOutput

    class Model(nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.inner = inner

        def forward(self, pixels, labels=None):
            return SequenceClassifierOutput(logits=self.inner(pixels))

    run = own()

    class InOrder(IterableDataset):
        def __len__(self):
            return 100 * len(run.loader)

        def __iter__(self):
            for images, labels in run.loader:
                for image, label in zip(images, labels, strict=True):
                    yield {"pixels": image, "labels": label}

    trusted = [({"pixels": images}, labels) for images, labels in run.trusted]
    reweighter = module.train(
        Model(run.before), InOrder(), trusted, run.class_counts, str(tmp_path), **OPTIONS
    )
    assert_equal(run.before, reweighter, run)


def test_a_timm_network_is_the_pipelines_run(own):
    module = example("timm_network", "timm")
    torch.manual_seed(0)
    run = own(module.network(10))
    reweighter = module.train(
        run.before, run.loader, run.trusted, run.class_counts, precision=None, **OPTIONS
    )
    assert_equal(run.before, reweighter, run)


def test_a_perceptron_on_rows_is_the_pipelines_run_and_its_function_serves_again(own, tmp_path):
    module = example("tabular")
    torch.manual_seed(0)
    run = own(module.network(64, 10))
    reweighter = module.train(run.before, run.loader, run.trusted, run.class_counts, **OPTIONS)
    assert_equal(run.before, reweighter, run)
    reweighter.save(tmp_path / "mine")
    again = module.network(64, 10)
    module.train_again(again, list(itertools.islice(run.loader, 5)), tmp_path / "mine", run.class_counts)


@pytest.mark.parametrize("file", sorted(EXAMPLES.glob("*.py")), ids=lambda file: file.stem)
def test_the_page_shows_the_examples_as_they_are(file):
    assert file.read_text() in (EXAMPLES.parent / "own-loop.md").read_text()
