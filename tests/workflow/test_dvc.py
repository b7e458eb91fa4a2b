"""The real DVC on our results: remotes, experiments, metrics, plots, and one changed noise level."""

import json
import re
import statistics
from pathlib import Path

import boto3
import pandas as pd
import pytest
from moto.server import ThreadedMotoServer

from cmw_pipeline.config.contracts import Page
from cmw_pipeline.io.manifests import open_stored
from cmw_pipeline.tables.numbers import numbers
from tests.support.project import Project, new_project

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.workflow
PARAMS = """
build: [tiny]
seeds: [0]
bias_seed: 1
datasets: {{digits: {{source: digits}}}}
biases: {{tiny: [asym-0.4, {second}]}}
methods:
  erm: {{kind: erm, label: ERM}}
  cmw-net: {{kind: erm, label: CMW-Net, weighting: {{kind: cmw-net, meta_set: clean-2, meta_every: 4}}}}
recipes:
  quick: {{network: {{name: small-cnn, width: 4}}, optimizer: {{lr: 0.1}}, epochs: 1, batch_size: 100}}
tables:
  tiny:
    title: A tiny grid
    grid:
      - {{dataset: digits, biases: tiny, methods: [erm, cmw-net], recipe: quick}}
"""
NOTHING = "Nothing to be done"
KEYS = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing", "AWS_DEFAULT_REGION": "us-east-1"}


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A project whose grid is made, known to DVC and committed. Not to be changed."""
    project = new_project(tmp_path_factory.mktemp("built") / "project", PARAMS)
    project.make_data_and_runs()
    project.run("dvc", "repro")
    project.commit("first")
    return project


@pytest.fixture
def project(built, tmp_path):
    return built.copy(tmp_path / "project")


@pytest.mark.parametrize("command", ["snakemake", "dvc repro"])
def test_one_changed_noise_level_runs_only_its_cells(project, command):
    before, kept = project.made(), project.planned()
    page = (project.root / "results/tiny.md").read_bytes()
    project.write_params("sym-0.3")
    project.run(*command.split())
    after = project.made()
    new = set(after) - set(before)
    assert new == project.planned() - kept
    assert sorted(name.split("/")[1] for name in new) == ["inject", "metaset", "train", "train"]
    assert all("sym-0.3" in name for name in new)
    assert all(after[name] == before[name] for name in before), "something was made again"
    project.write_params("sym-0.2")
    project.run(*command.split())
    assert project.made() == after
    assert (project.root / "results/tiny.md").read_bytes() == page


def test_an_older_commit_checked_out_has_nothing_to_do(project):
    project.write_params("sym-0.3")
    project.make_data_and_runs()
    project.run("dvc", "repro")
    project.commit("another rate")
    project.run("git", "checkout", "-q", "HEAD~1")
    project.run("dvc", "checkout")
    assert NOTHING in project.run("snakemake", "-n")
    project.run("git", "checkout", "-q", "-")
    project.run("dvc", "checkout")
    assert NOTHING in project.run("snakemake", "-n")


@pytest.fixture(scope="module")
def bucket():
    """(address of an S3 server on this machine, name of a bucket in it)."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    address = f"http://{host}:{port}"
    keys = {"aws_access_key_id": "testing", "aws_secret_access_key": "testing"}
    boto3.client("s3", endpoint_url=address, region_name="us-east-1", **keys).create_bucket(Bucket="shelf")
    yield address, "shelf"
    server.stop()


@pytest.mark.parametrize("kind", ["folder", "s3"])
def test_biased_data_and_trained_models_go_through_a_remote(project, bucket, kind, tmp_path):
    address, at = bucket
    url = str(tmp_path / "shelf") if kind == "folder" else f"s3://{at}/results"
    project.run("dvc", "remote", "add", "-d", "shelf", url)
    if kind == "s3":
        project.run("dvc", "remote", "modify", "shelf", "endpointurl", address)
    project.run("dvc", "push", **KEYS)
    project.commit("remote")
    project.run("git", "clone", "-q", str(project.root), str(tmp_path / "clone"))
    clone = Project(tmp_path / "clone", PARAMS)
    assert clone.made() == {}
    clone.run("dvc", "pull", **KEYS)
    assert set(clone.made()) == clone.planned()
    for manifest in clone.made():
        open_stored((clone.root / manifest).parent)
    for name in ("labels.parquet", "metaset.parquet", "model.safetensors"):
        ours = sorted((project.root / "results").rglob(name))
        assert len(ours) >= 2
        assert all(
            file.read_bytes() == (clone.root / file.relative_to(project.root)).read_bytes() for file in ours
        )
    assert NOTHING in clone.run("snakemake", "-n")


NOISE = """# rates to be tried
biases:
  tiny:         # a list
  - asym-0.4
  - sym-0.2
  other:
  - none
"""


def test_an_experiment_changes_one_value_and_runs_what_it_changes(project, tmp_path):
    """Of a file of the folder; nothing runs again for having moved there. Its numbers can be compared."""
    before = project.made()
    main, noise = project.root / "params.yaml", project.root / "params" / "noise.yaml"
    noise.parent.mkdir()
    noise.write_text(NOISE)
    main.write_text(re.sub(r"^biases:.*\n", "include: [params]\n", main.read_text(), flags=re.MULTILINE))
    stages = (project.root / "dvc.yaml").read_text()
    (project.root / "dvc.yaml").write_text(
        stages.replace("- params.yaml:", "- params.yaml:\n      - params/noise.yaml:")
    )
    project.run("dvc", "repro")
    assert project.made() == before
    project.commit("two files")
    kept = main.read_text(), noise.read_text()
    project.run("dvc", "exp", "run", "-n", "other", "-S", "params/noise.yaml:biases.tiny=[asym-0.4,sym-0.3]")
    new = set(project.made()) - set(before)
    assert sorted(name.split("/")[1] for name in new) == ["inject", "metaset", "train", "train"]
    assert (main.read_text(), noise.read_text()) == (kept[0], kept[1].replace("sym-0.2", "sym-0.3"))
    assert "other" in project.run("dvc", "exp", "show", "--csv")

    changes = json.loads(project.run("dvc", "metrics", "diff", "--json"))
    cells = changes["results/numbers/tiny.json"]
    of_new = {key for key, change in cells.items() if change.get("new") is not None}
    assert {f"accuracy.digits/sym-0.3/{method}/quick.mean" for method in ("erm", "cmw-net")} <= of_new
    assert not [key for key in cells if "asym-0.4" in key], "what did not change is not listed"
    assert "sym-0.3" in project.run("dvc", "params", "diff")

    out = tmp_path / "plots"
    project.run("dvc", "plots", "diff", "HEAD", "workspace", "--out", str(out))
    drawn = (out / "index.html").read_text()
    frame = pd.read_parquet(project.root / "results/tiny.parquet")
    shown = frame[(frame.protocol == "last") & (frame.split == "test") & (frame.metric == "accuracy")]
    assert len(shown) == 4
    assert all(f"{value}" in drawn for value in shown["value"]), "every accuracy is a point"


def rows(values):
    cell = {"table": "t", "run": "r", "dataset": "digits", "bias": "asym-0.4", "recipe": "quick"}
    cell |= {
        "split": "test",
        "epoch": 3,
        "seconds": 1.0,
        "evaluation_seconds": 0.1,
        "peak_mib": 1.0,
        "device": "cpu",
        "torch": "2",
        "verified": True,
        "precision": "float32",
    }
    cell |= {"smoke": False, "protocol": "last", "metric": "accuracy"}
    records = [
        cell | {"method": method, "seed": seed, "value": value}
        for method, found in values.items()
        for seed, value in enumerate(found)
    ]
    other = [record | {"protocol": "best", "value": 0.0} for record in records]
    return pd.DataFrame(records + other)[list(Page.ROWS.columns)]


def test_the_numbers_are_the_means_of_the_rows():
    values = {"erm": [81.25, 80.0, 83.5], "gce": [90.0]}
    found = json.loads(numbers(rows(values)))
    erm, gce = (found["accuracy"][f"digits/asym-0.4/{method}/quick"] for method in values)
    assert erm == {
        "mean": pytest.approx(statistics.mean(values["erm"])),
        "std": pytest.approx(statistics.stdev(values["erm"])),
        "n": 3,
    }
    assert gce == {"mean": 90.0, "std": None, "n": 1}
    assert found["points"] == [
        {"method": "erm", "accuracy": erm["mean"]},
        {"method": "gce", "accuracy": 90.0},
    ]
    assert json.loads(numbers(rows(values).iloc[:0])) == {"points": []}


def test_the_numbers_in_git_are_those_of_the_tables_a_line_for_each_cell():
    files = sorted((ROOT / "results" / "numbers").glob("*.json"))
    assert files
    for file in files:
        wanted = numbers(pd.read_parquet(ROOT / "results" / f"{file.stem}.parquet"))
        assert len(file.read_text().splitlines()) == len(wanted.splitlines()), file.name
        found, wanted = (json.loads(text) for text in (file.read_text(), wanted))
        assert found.pop("points") == [
            {"method": point["method"], "accuracy": pytest.approx(point["accuracy"])}
            for point in wanted.pop("points")
        ]
        assert {m: list(cells) for m, cells in found.items()} == {
            m: list(cells) for m, cells in wanted.items()
        }
        for metric, cells in wanted.items():
            assert all(found[metric][name] == pytest.approx(cell) for name, cell in cells.items())
