"""The training stage on real digits: no clean label is seen, the sets stay apart, and runs repeat."""

import functools
import json
import shutil

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.numpy import load_file

from cmw_pipeline import load_weighting
from cmw_pipeline.config import Plan, load
from cmw_pipeline.config.contracts import Biased, MetaSet, Raw, Run
from cmw_pipeline.config.schema import Network
from cmw_pipeline.data.digits import read_digits
from cmw_pipeline.data.raw import write_raw
from cmw_pipeline.io.manifests import open_stored, publish
from cmw_pipeline.io.tables import read_table, write_table
from cmw_pipeline.models.registry import build
from cmw_pipeline.runtime.signals import StopRequest
from cmw_pipeline.stages import download, export, inject, metaset, train
from cmw_pipeline.stages.base import make
from cmw_pipeline.training.assemble import read_splits
from cmw_pipeline.training.outcome import run_rows
from cmw_pipeline.training.stored import StoredRun

PARAMS = """
build: [tiny]
seeds: [0, 1]
bias_seed: 1
datasets: {digits: {source: digits}}
biases: {tiny: [lt-5+asym-0.4]}
methods:
  erm: {kind: erm, label: ERM}
  mw-net:
    kind: erm
    label: MW-Net
    weighting: {kind: mw-net, meta_set: clean-3, meta_batch: 20, meta_every: 3}
  cmw-net:
    kind: erm
    label: CMW-Net
    weighting: {kind: cmw-net, meta_set: clean-3, meta_batch: 20, normalisation: sum}
  chosen:
    kind: erm
    label: Chosen
    start_epoch: 1
    weighting: {kind: cmw-net, meta_set: lowest-4, meta_every: 4}
  moved: {kind: erm, label: Moved, weighting: {kind: frozen, run: digits/lt-5+asym-0.4/cmw-net/quick/seed0}}
recipes:
  quick:
    network: {name: small-cnn, width: 4}
    optimizer: {lr: 0.1}
    epochs: 2
    batch_size: 100
    ema: 0.9
    augment: {pad: 1, flip: false}
  thinned: {like: quick, evaluate_every: 5}
tables:
  tiny: {title: Tiny, grid: [{dataset: digits, biases: tiny, methods: [erm, cmw-net], recipe: quick}]}
"""
BIASED = "digits/lt-5+asym-0.4"
ALL = ["erm", "mw-net", "cmw-net", "chosen", "moved"]
OUTPUTS = [
    "model.safetensors",
    "teacher.safetensors",
    "method.safetensors",
    "samples.parquet",
    "rows.parquet",
]
CPU = torch.device("cpu")
SMALL_CNN = Network(name="small-cnn", width=4)


class Project:
    """A folder with the raw digits and everything that has been made of them."""

    def __init__(self, root):
        self.root = root
        (root / "params.yaml").write_text(PARAMS)
        self.plan = Plan(load(root / "params.yaml"))

    def prepare(self):
        """Everything that training reads."""
        make(self.plan.download("digits"), download.run, self.root)
        make(self.plan.inject(BIASED), inject.run, self.root)
        for rule in ("clean-3", "lowest-4"):
            make(self.plan.metaset(f"{BIASED}/{rule}"), metaset.run, self.root)
        return self

    def cell(self, method, seed=0, recipe="quick"):
        name = f"{BIASED}/{method}/{recipe}/seed{seed}"
        return self.plan.transfer(name) if method == "moved" else self.plan.train(name)

    def train(self, method, seed=0, recipe="quick"):
        artefact = self.cell(method, seed, recipe)
        if method == "moved":
            self.export()
        run = functools.partial(train.run, device=torch.device("cpu"), stop=StopRequest())
        make(artefact, run, self.root)
        return open_stored(self.root / artefact.path)

    def export(self):
        self.train("cmw-net")
        artefact = self.plan.export(f"{BIASED}/cmw-net/quick/seed0")
        make(artefact, export.run, self.root)
        return open_stored(self.root / artefact.path)

    def labels(self):
        artefact = self.plan.inject(BIASED)
        return read_table(self.root / artefact.path / "labels.parquet", Biased.LABELS.columns)

    def metaset(self, rule):
        artefact = self.plan.metaset(f"{BIASED}/{rule}")
        return read_table(self.root / artefact.path / "metaset.parquet", MetaSet.SAMPLES.columns)

    def splits(self, method):
        artefact = self.cell(method)
        inputs = {role: open_stored(self.root / source.path) for role, source in artefact.inputs.items()}
        splits = read_splits(inputs)
        return splits.train, splits.held_out, splits.test


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    return Project(tmp_path_factory.mktemp("project")).prepare()


def poison(project, root, clean, flipped):
    """A copy of the project in which every clean label on disk, raw ones too, is wrong."""
    other = Project(root)
    images, labels, split = read_digits()
    with publish(other.plan.download("digits"), {}, root) as draft:
        draft.notes["verified"] = True
        write_raw(draft.path, images, (9 - labels).astype(np.int16), split)
    artefact = other.plan.inject(BIASED)
    table = project.labels()
    inputs = {"raw": open_stored(root / artefact.inputs["raw"].path)}
    with publish(artefact, inputs, root) as draft:
        frame = table.assign(clean_label=clean(table["clean_label"]), is_flipped=flipped)
        write_table(draft.path / "labels.parquet", frame, Biased.LABELS.columns)
    inputs["biased"] = open_stored(root / artefact.path)
    for rule in ("clean-3", "lowest-4"):  # the same samples as before, of the labels that are there now
        kept = other.plan.metaset(f"{BIASED}/{rule}")
        with publish(kept, {role: inputs[role] for role in kept.inputs}, root) as draft:
            shutil.copy(project.root / kept.path / "metaset.parquet", draft.path)
            draft.notes |= open_stored(project.root / kept.path).manifest["notes"]
    return other


POISONS = [
    (lambda clean: 9 - clean, True),
    (lambda clean: pd.array([None] * len(clean), dtype="Int16"), False),  # not known at all
]


@pytest.mark.parametrize("number", range(len(POISONS)))
def test_poisoned_clean_labels_change_not_one_byte_of_any_run(project, tmp_path, number):
    other = poison(project, tmp_path, *POISONS[number])
    assert not other.labels()["clean_label"].equals(project.labels()["clean_label"])
    for method in ALL[:4] if number == 0 else ALL[:1]:
        ours, theirs = project.train(method), other.train(method)
        for name in OUTPUTS:
            assert (ours.path / name).read_bytes() == (theirs.path / name).read_bytes(), (method, name)


def test_poisoned_given_labels_do_change_it(project, tmp_path):
    """Negative control of the test above."""
    shutil.copytree(project.root / "results", tmp_path / "results", ignore=lambda *_: ["train", "inject"])
    other = Project(tmp_path)
    artefact, table = other.plan.inject(BIASED), project.labels()
    raw = {"raw": open_stored(tmp_path / artefact.inputs["raw"].path)}
    with publish(artefact, raw, tmp_path) as draft:
        frame = table.assign(label=table["clean_label"])
        write_table(draft.path / "labels.parquet", frame, Biased.LABELS.columns)
    ours, theirs = (p.train("erm").path / "model.safetensors" for p in (project, other))
    assert ours.read_bytes() != theirs.read_bytes()


def test_training_loads_index_label_and_split_and_no_other_column(tmp_path, monkeypatch):
    fresh = Project(tmp_path).prepare()
    read = []

    class Spy(pq.ParquetFile):
        def __init__(self, path, **options):
            super().__init__(path, **options)
            self.place = path.relative_to(tmp_path / "results").parts[0], path.name

        def read(self, columns=None, **options):
            read.append((*self.place, columns))
            return super().read(columns=columns, **options)

    monkeypatch.setattr(pq, "ParquetFile", Spy)
    fresh.train("cmw-net")
    assert read == [
        ("inject", "labels.parquet", ["index", "label", "split"]),
        ("metaset", "metaset.parquet", None),  # index and label are all it has
    ]


@pytest.mark.parametrize("method", ["erm", "cmw-net", "chosen"])
def test_training_meta_and_test_images_are_strangers_to_each_other(project, method):
    samples, held_out, test = project.splits(method)
    table = project.labels().set_index("index")
    raw_path = project.root / project.plan.download("digits").path / "labels.parquet"
    published = read_table(raw_path, Raw.LABELS.columns)
    assert set(test.index) == set(published.loc[published["split"] == "test", "index"])
    assert set(table.loc[samples.index, "split"]) == {"train"}
    for one, other in ((samples, held_out), (samples, test), (held_out, test)):
        assert not set(one.index) & set(other.index)
    assert (samples.labels == table.loc[samples.index, "label"]).all()
    assert (test.labels == published["label"][test.index]).all()  # the test labels are the right ones


def test_held_out_images_are_in_no_training_batch_and_test_images_in_none_at_all(
    project, tmp_path, monkeypatch
):
    from cmw_pipeline.training import program
    from cmw_pipeline.training.step import training_step

    trained, meta = set(), set()

    def fingerprints(batch):
        return {image.numpy().tobytes() for image in batch.images}

    def spy(model, method, optimizer, batch, meta_batch, *ways):
        trained.update(fingerprints(batch))
        meta.update(fingerprints(meta_batch) if meta_batch else ())
        return training_step(model, method, optimizer, batch, meta_batch, *ways)

    monkeypatch.setattr(program, "training_step", spy)
    text = PARAMS.replace("augment: {pad: 1, flip: false}", "augment: {}")
    shutil.copytree(project.root / "results", tmp_path / "results", ignore=lambda *_: ["train"])
    other = Project(tmp_path)
    (tmp_path / "params.yaml").write_text(text)
    other.plan = Plan(load(tmp_path / "params.yaml"))
    other.train("cmw-net")

    images = read_digits()[0].astype(np.float32).transpose(0, 3, 1, 2)
    scaled = (images - np.float32(255) * np.float32(0.287)) / (np.float32(255) * np.float32(0.354))
    samples, held_out, test = other.splits("cmw-net")
    prints = [{scaled[i].tobytes() for i in split.index} for split in (samples, held_out, test)]
    assert trained
    assert meta
    assert trained <= prints[0]
    assert meta <= prints[1]
    assert not (trained | meta) & prints[2]
    assert not trained & prints[1]


def test_self_chosen_meta_images_are_training_images(project):
    assert len(project.metaset("lowest-4")) == 0
    samples, held_out, _ = project.splits("chosen")
    assert len(held_out.index) == 0
    assert len(samples.index) == (project.labels()["split"] == "train").sum()


@pytest.mark.parametrize("method", ALL)
def test_making_a_run_twice_gives_the_same_bytes(project, tmp_path, method):
    first = project.train(method)
    shutil.copytree(project.root / "results", tmp_path / "results", ignore=lambda *_: ["train", "transfer"])
    torch.manual_seed(4711)  # whatever another process drew
    second = Project(tmp_path).train(method)
    for name in OUTPUTS:
        assert (first.path / name).read_bytes() == (second.path / name).read_bytes(), name


def test_another_seed_is_another_run(project):
    first, second = (project.train("erm", seed).path / "model.safetensors" for seed in (0, 1))
    assert first.read_bytes() != second.read_bytes()


def test_a_thinned_evaluation_changes_no_training_and_ends_with_the_last_epoch(project):
    always, thinned = project.train("erm"), project.train("erm", recipe="thinned")
    assert (always.path / "model.safetensors").read_bytes() == (
        thinned.path / "model.safetensors"
    ).read_bytes()
    every, some = (pd.read_csv(run.path / "epochs.csv") for run in (always, thinned))
    assert every["accuracy"].notna().all()
    assert some["accuracy"].notna().tolist() == [False, True]
    assert some["accuracy"].iloc[-1] == every["accuracy"].iloc[-1]
    assert set(read_table(thinned.path / "rows.parquet", Run.ROWS.columns)["epoch"]) == {2}
    assert 0 < always.manifest["cost"]["evaluation_seconds"] < always.manifest["cost"]["seconds"]


def test_rows_hold_the_last_and_the_best_epoch_of_student_and_teacher(project):
    stored = project.train("cmw-net")
    rows = read_table(stored.path / "rows.parquet", Run.ROWS.columns)
    epochs = pd.read_csv(stored.path / "epochs.csv")
    assert len(epochs) == 2
    assert list(zip(rows["protocol"], rows["metric"], strict=True)) == [
        ("last", "accuracy"),
        ("best", "accuracy"),
        ("last", "ema_accuracy"),
        ("best", "ema_accuracy"),
    ]
    assert set(rows["split"]) == {"test"}
    for row in rows.itertuples():
        series = epochs[row.metric]
        assert row.value == pytest.approx(series.iloc[-1] if row.protocol == "last" else series.max())
        assert row.value == pytest.approx(series.iloc[row.epoch - 1])
    assert rows["epoch"].tolist()[0] == 2


@pytest.mark.parametrize("first", ["twins", "margins", "experts"])
def test_a_run_may_start_from_one_of_another_shape(tmp_path, first):
    text = PARAMS.replace("  mw-net:", f"""
  twins: {{kind: co-teaching, label: Twins, forget_rate: 0.2}}
  margins: {{kind: ldam, label: Margins, weighting: {{kind: cmw-net, meta_set: clean-3}}}}
  experts: {{kind: sade, label: Experts, weighting: {{kind: mcw, meta_set: clean-3}}}}
  second: {{kind: forward, label: Second, first: {{method: {first}}}}}
  mw-net:""", 1)  # fmt: skip
    other = Project(tmp_path)
    (tmp_path / "params.yaml").write_text(text)
    other.plan = Plan(load(tmp_path / "params.yaml"))
    other.prepare()
    run = StoredRun.of(other.train(first))
    rows = read_table(run.path / "rows.parquet", Run.ROWS.columns).set_index(["protocol", "metric"])
    assert rows.loc[("last", "accuracy"), "value"] == pytest.approx(accuracy(run.rebuild(CPU).eval()))
    assert len(other.train("second").manifest["inputs"]) == 3


def test_the_best_epoch_is_the_first_of_equals():
    accuracies = [50.0, 70.0, 70.0, 60.0]
    scores = [{"test": {"accuracy": value}} for value in accuracies]
    records = [{"epoch": epoch, "scores": found} for epoch, found in enumerate(scores)]
    rows = pd.DataFrame(run_rows(records))
    assert rows[["protocol", "value", "epoch"]].to_numpy().tolist() == [["last", 60.0, 4], ["best", 70.0, 2]]


def test_a_run_names_the_device_that_it_was_trained_on(project, monkeypatch):
    assert project.train("erm").manifest["notes"]["device"] == "cpu"
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"a GPU, number {device.index}")
    assert train._name(torch.device("cuda", 3)) == "a GPU, number 3"


def scaled_digits():
    return torch.from_numpy((read_digits()[0] / 255.0 - 0.287) / 0.354).permute(0, 3, 1, 2).float()


def accuracy(model):
    """Percent of the digits' test set that is predicted right."""
    _, labels, split = read_digits()
    with torch.no_grad():
        guesses = model(scaled_digits()).argmax(1).numpy()
    return 100 * (guesses == labels)[split == "test"].mean()


def stored_model(stored, name="model.safetensors"):
    model = build(SMALL_CNN, 1, 10, 0)
    model.load_state_dict(
        {key: torch.from_numpy(value) for key, value in load_file(stored.path / name).items()}
    )
    return model.eval()


@pytest.mark.parametrize(("file", "metric"), [("model", "accuracy"), ("teacher", "ema_accuracy")])
def test_the_stored_model_has_the_accuracy_of_its_last_row(project, file, metric):
    stored = project.train("cmw-net")
    right = accuracy(stored_model(stored, f"{file}.safetensors"))
    rows = read_table(stored.path / "rows.parquet", Run.ROWS.columns).set_index(["protocol", "metric"])
    assert rows.loc[("last", metric), "value"] == pytest.approx(right)


@pytest.mark.parametrize("method", ["erm", "cmw-net", "chosen", "moved"])
def test_the_samples_hold_loss_and_weight_of_every_training_sample(project, method):
    """By the stored tensors and the formula alone."""
    stored = project.train(method)
    samples = read_table(stored.path / "samples.parquet", Run.SAMPLES.columns)
    assert samples["index"].tolist() == project.splits(method)[0].index.tolist()
    with torch.no_grad():
        logits = stored_model(stored)(scaled_digits()[samples["index"].tolist()]).double()
    losses = -torch.log_softmax(logits, 1).numpy()[np.arange(len(samples)), samples["label"]]
    np.testing.assert_allclose(samples["loss"], losses, atol=1e-4)
    if method == "erm":
        assert (samples["weight"] == 1).all()
        return
    state = load_file(stored.path / "method.safetensors")
    prefix = "weighting.function.net." if method == "moved" else "weighting.net."
    groups = state[prefix.replace("net.", "groups")][samples["label"]]
    if method == "moved":
        losses = np.minimum(losses, state[prefix + "loss_max"])
    hidden = np.maximum(losses[:, None] * state[prefix + "trunk.weight"].T + state[prefix + "trunk.bias"], 0)
    z = hidden @ state[prefix + "heads.weight"].T + state[prefix + "heads.bias"]
    weights = 1 / (1 + np.exp(-z[np.arange(len(samples)), groups]))
    np.testing.assert_allclose(samples["weight"], weights, atol=1e-4)
    assert samples["weight"].nunique() > 100


def test_nothing_is_left_of_the_checkpoints_of_a_finished_run(project):
    project.train("erm")
    assert list((project.root / "results" / "checkpoints").glob("*")) == []


def test_a_run_of_unverified_data_says_so_all_the_way(tmp_path):
    other = Project(tmp_path)
    with publish(other.plan.download("digits"), {}, tmp_path) as draft:
        write_raw(draft.path, *read_digits())
        draft.notes["verified"] = False
    other.prepare()
    stored = other.train("cmw-net")
    assert not stored.verified
    assert stored.manifest["notes"]["verified"] is False
    card = json.loads((other.export().path / "card.json").read_text())
    assert card["source"]["verified"] is False


def test_a_run_of_verified_data_is_verified(project):
    assert project.train("cmw-net").verified
    assert load_weighting(project.export().path).card["source"]["verified"] is True


def test_export_takes_out_what_the_run_learned(project):
    run, stored = project.train("cmw-net"), project.export()
    assert sorted(stored.manifest["files"]) == [
        "card.json",
        "curve.csv",
        "weighting.png",
        "weighting.safetensors",
    ]
    weigh = load_weighting(stored.path)
    counts = np.bincount(project.splits("cmw-net")[0].labels, minlength=10)
    assert weigh.groups.tolist() == weigh.for_classes(counts).groups.tolist()
    assert set(weigh.groups.tolist()) == {0, 1, 2}

    samples = read_table(run.path / "samples.parquet", Run.SAMPLES.columns)
    losses = torch.from_numpy(samples["loss"].to_numpy(copy=True))
    labels = torch.from_numpy(samples["label"].to_numpy(np.int64))
    inside = (losses <= weigh.net.loss_max).numpy()
    assert inside.mean() > 0.9
    found = weigh(losses, labels).numpy()
    np.testing.assert_allclose(found[inside], samples["weight"][inside], atol=1e-6)

    curve = pd.read_csv(stored.path / "curve.csv")
    assert list(curve) == ["loss", "small", "moderate", "large"]
    assert (curve["loss"].iloc[0], curve["loss"].iloc[-1]) == (0.0, 10.0)
    grid = torch.tensor(curve["loss"].tolist())
    with torch.no_grad():
        for group, name in enumerate(["small", "moderate", "large"]):
            expected = weigh.net(grid, torch.full((len(grid),), group)).numpy()
            np.testing.assert_allclose(curve[name], expected, atol=1e-6)

    card = json.loads((stored.path / "card.json").read_text())
    assert card["source"]["run"] == f"{BIASED}/cmw-net/quick/seed0"
    assert card["source"]["content"] == run.content
    assert (stored.path / "weighting.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
