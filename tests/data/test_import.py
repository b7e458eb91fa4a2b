"""`cmw import`: a dataset of one's own goes through the stages like any other."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from PIL import Image

from cmw_pipeline.cli import main
from cmw_pipeline.config import load
from cmw_pipeline.config.document import read_document
from cmw_pipeline.data.raw import read_files, read_labels, read_vectors
from cmw_pipeline.io.manifests import open_stored

ROOT = Path(__file__).parents[2]


@pytest.fixture
def project(tmp_path, monkeypatch):
    shutil.copy(ROOT / "params.yaml", tmp_path)
    shutil.copytree(ROOT / "params", tmp_path / "params")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def cmw(*words):
    done = CliRunner().invoke(main, list(words))
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done


def right(*words):
    done = cmw(*words)
    assert done.exit_code == 0, done.output
    return done.stdout


def save_vectors(file, each=30):
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(3), each)
    np.savez(
        file, X=rng.normal(size=(len(labels), 4)) + 4 * np.eye(4)[labels], y=np.array(["a", "b", "c"])[labels]
    )


def test_vectors_go_from_import_to_a_trained_run(project):
    save_vectors(project / "mine.npz")
    said = right("import", "mine.npz")
    assert "3 classes, 72 to train on, 18 to test" in said and "results/mine.md" in said
    (raw,) = (project / "results" / "download").iterdir()
    vectors, _ = read_vectors(raw)
    assert vectors.shape == (90, 4) and len(read_labels(raw)["label"]) == 90
    right("inject", "mine/none")
    right("metaset", "mine/none/lowest-10")
    run = right("train", "mine/none/mine-cmw-net-sl/mine/seed0").strip()
    rows = pd.read_parquet(project / run / "rows.parquet")
    assert rows["value"].min() > 80


def test_an_average_of_weights_has_steps_enough_even_of_few_samples(project):
    """Decays of 0.97 leave less than 5% of where the network began: of 72 samples, too."""
    save_vectors(project / "mine.npz")
    right("import", "mine.npz")
    recipe = load(project / "params.yaml").recipes["mine"]
    steps = recipe.epochs * (72 // recipe.batch_size)
    assert recipe.ema**steps < 0.05
    right("inject", "mine/sym-0.4")
    assert "training labels look wrong" in right("audit", "mine/sym-0.4", "--fast")


def test_pictures_are_listed_where_they_are(project):
    for name in ("cat", "dog"):
        for row in range(6):
            file = project / "pictures" / name / f"{row}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.full((8, 8, 3), row * 9 + len(name + name[0]), dtype=np.uint8)).save(file)
    right("import", "pictures", "--name", "pets")
    (raw,) = (project / "results" / "download").iterdir()
    assert read_files(raw)["path"].to_pylist()[:2] == ["cat/0.png", "cat/1.png"]
    assert not list(raw.glob("*.png"))
    assert open_stored(raw).manifest["notes"]["root"] == str((project / "pictures").resolve())
    assert "pets: 6 cells" in right("check")


def test_parameters_that_include_nothing_include_what_was_imported(project):
    save_vectors(project / "mine.npz")
    alone = json.dumps(read_document(project / "params.yaml").values)
    (project / "params.yaml").write_text(alone)
    done = cmw("import", "mine.npz")
    assert done.exit_code == 2 and "add params/mine.yaml to its list `include`" in done.stderr
    assert not (project / "results").exists()
    lines = [f"{key}: {json.dumps(value)}" for key, value in json.loads(alone).items()]
    (project / "params.yaml").write_text("\n".join(lines))
    right("import", "mine.npz")
    assert "mine: 6 cells" in right("check")


def test_nothing_is_imported_by_halves(project):
    (project / "t.csv").write_text("f,label\n1,a\n,b\n3,b\n")
    done = cmw("import", "t.csv")
    assert done.exit_code == 3 and "line 3: f is nan" in done.stderr
    assert not (project / "params" / "t.yaml").exists() and not (project / "results").exists()


@pytest.mark.parametrize("name", ["digits", "../x", "a b", ""])
def test_a_name_that_is_taken_or_no_name_is_refused(project, name):
    save_vectors(project / "digits.npz")
    done = cmw("import", "digits.npz", "--name", name)
    assert done.exit_code == 2 and done.stderr.startswith("cmw: ")


def test_a_network_for_pictures_is_refused_for_vectors(project):
    save_vectors(project / "mine.npz")
    right("import", "mine.npz")
    right("inject", "mine/none")
    done = cmw("train", "mine/none/erm/digits-cnn/seed0")
    assert done.exit_code == 2 and "small-cnn is not for vectors" in done.stderr


def test_a_name_that_something_else_in_the_project_has_is_refused(project):
    save_vectors(project / "mine.npz")
    before = {file: file.read_bytes() for file in project.rglob("*.yaml")}
    done = cmw("import", "mine.npz", "--name", "demo")
    assert done.exit_code == 2 and "has a demo already" in done.stderr
    assert before == {file: file.read_bytes() for file in project.rglob("*.yaml")}
