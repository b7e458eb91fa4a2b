"""A newcomer with a folder of pictures, by the commands of the README; and a table with columns of text."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from tests.support.project import cmw, made

ROOT = Path(__file__).parents[2]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Bright and dark pictures, every sixth in the wrong folder; the project's parameters beside them."""
    rng = np.random.default_rng(0)
    for row in range(60):
        true = row % 2
        name = ("dark", "bright")[true != (row % 12 in (0, 1))]
        file = tmp_path / "my-pictures" / name / f"{row}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((rng.integers(0, 60, (12, 12, 3)) + 150 * true).astype(np.uint8)).save(file)
    shutil.copytree(tmp_path / "my-pictures" / "dark", tmp_path / "new-pictures")
    shutil.copy(ROOT / "params.yaml", tmp_path)
    shutil.copytree(ROOT / "params", tmp_path / "params")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_newcomer_with_a_folder(folder):
    made("audit", "my-pictures", "--fast", "--backbone", "none")
    out = folder / "audit" / "my-pictures"
    assert "my-pictures" in (out / "report.html").read_text()
    suspects = pd.read_csv(out / "suspects.csv")
    first = suspects.head(5)
    assert all(int(Path(path).stem) % 12 in (0, 1) for path in first["path"])
    marks = first.assign(verdict="y", label=first["suggested"], sampled=True)
    marks[["id", "verdict", "label", "sampled"]].to_csv("reviewed.csv", index=False)
    made("audit", "my-pictures", "--fast", "--backbone", "none", "--review", "reviewed.csv")
    assert json.loads((out / "audit.json").read_text())["certificate"]["wrong"] == 5
    code, said = cmw("predict", "audit/my-pictures", "new-pictures")
    assert code == 0 and said.count("dark") + said.count("bright") >= 30
    Path("new.csv").write_text("picture,scan\nnew-pictures/4.png,first\nnew-pictures/2.png,second\n")
    _, said = cmw("predict", "audit/my-pictures", "new.csv", "--path", "picture", "--id", "scan")
    assert [line.split(",")[0] for line in said.splitlines()] == ["sample", "first", "second"]
    code, said = cmw("predict", "audit/my-pictures", "new-pictures", "--id", "scan")
    assert code == 2 and "not a table, so it has no column 'scan'" in said
    made("import", "my-pictures", "--name", "mine")
    assert "mine: 6 cells" in cmw("check")[1]
    (folder / "my-pictures" / "dark" / "3.png").unlink(missing_ok=True)
    (folder / "my-pictures" / "bright" / "3.png").unlink(missing_ok=True)
    code, said = cmw("audit", "mine", "--fast", "--backbone", "none")
    assert code == 3 and "3.png" in said and "cmw download mine" in said


def test_columns_of_text_become_a_feature_for_each_value(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    colour = np.array(["red", "blue", "green"])[(np.arange(90) + (np.arange(90) % 30 == 0)) % 3]
    frame = pd.DataFrame({"x": rng.normal(size=90), "colour": colour, "label": np.arange(90) % 3})
    frame.to_csv("t.csv", index=False)
    made("audit", "t.csv", "--fast", "--out", "out")
    card = json.loads(Path("out/model/card.json").read_text())
    assert card["features"] == ["x", "colour=blue", "colour=green", "colour=red"]
    code, said = cmw("predict", "out", "t.csv")
    right = [line.split(",")[1] == str(row % 3) for row, line in enumerate(said.splitlines()[1:])]
    assert code == 0 and np.mean(right) > 0.95
    frame.assign(text=[f"word {row}" for row in range(90)]).to_csv("t.csv", index=False)
    code, said = cmw("audit", "t.csv")
    assert code == 2 and "column 'text' is text of 90 values; at most 50 become features" in said
    assert "--id text" in said
    made("audit", "t.csv", "--id", "text", "--fast", "--out", "named")
    lines = cmw("predict", "named", "t.csv", "--id", "text")[1].splitlines()
    assert [line.split(",")[0] for line in lines[1:]] == [f"word {row}" for row in range(90)]
    code, said = cmw("predict", "named", "t.csv", "--id", "word")
    assert code == 2 and "no column 'word'; there are colour, label, text" in said
    frame.assign(x=["abc", *frame["x"][1:]]).to_csv("t.csv", index=False)
    code, said = cmw("audit", "t.csv")
    assert code == 2 and "column 'x' holds 'abc', which is no number" in said
