"""The worked examples of CONTRIBUTING.md, followed to the letter in a copy of the project."""

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from tests.support.processes import BIN, environment

ROOT = Path(__file__).parents[2]
ADDING = (ROOT / "CONTRIBUTING.md").read_text().split("## Adding\n")[1].split("\n## ")[0]
FENCE = re.compile(r"(?:^(?P<where>[^\n]*):\n\n)?```(?P<language>\w+)\n(?P<content>.*?)```", re.M | re.S)
PLACE = re.compile(
    r"(?P<how>New,|At the end of|In) `(?P<file>[^`]+)`(?:, (?P<side>above|below) the line `(?P<line>.+)`)?"
)
KEPT = ["cmw_pipeline", "params.yaml", "params", "pyproject.toml"]


def written(root, place, content):
    """Put an example's content where the sentence above it says."""
    file = root / place["file"]
    if place["how"] == "New,":
        assert not file.exists(), file
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
    elif place["how"] == "At the end of":
        gap = "\n\n" if file.suffix == ".py" else ""
        file.write_text(file.read_text() + gap + content.lstrip("\n"))
    else:
        (line,) = [line for line in file.read_text().splitlines() if line.strip() == place["line"]]
        both = f"{content}{line}\n" if place["side"] == "above" else f"{line}\n{content}"
        file.write_text(file.read_text().replace(f"{line}\n", both))


def stripes(folder):
    """The files that the example of a dataset is about."""
    folder.mkdir()
    number = np.arange(200)
    labels = (number % 4).astype(np.int16)
    slopes = number[:, None, None] % 7 * np.arange(8)[:, None] + np.arange(8)
    images = (labels[:, None, None] * 60 + slopes).astype(np.uint8)[..., None]
    np.save(folder / "images.npy", images, allow_pickle=False)
    np.save(folder / "labels.npy", labels, allow_pickle=False)


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A copy of the project in which every file of the examples has been made; and their commands."""
    root = tmp_path_factory.mktemp("copy")
    for name in KEPT:
        source = ROOT / name
        copy = shutil.copytree if source.is_dir() else shutil.copy
        copy(source, root / name)
    (root / "tests" / "support").mkdir(parents=True)
    for name in ("__init__.py", "conftest.py", "support/tiny.py", "support/processes.py"):
        shutil.copy(ROOT / "tests" / name, root / "tests" / name)
    stripes(root / "stripes")
    commands = []
    for fence in FENCE.finditer(ADDING):
        if fence["language"] == "sh":
            commands += fence["content"].splitlines()
        else:
            place = PLACE.fullmatch(fence["where"] or "")
            assert place, f"where does it go? {fence[0]}"
            written(root, place, fence["content"])
    return root, commands


def run(root, *command):
    path = str(root)
    done = subprocess.run(command, cwd=root, env=environment(PYTHONPATH=path), capture_output=True, text=True)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def test_the_examples_can_be_followed(project):
    root, commands = project
    assert len(commands) > 5
    for command in commands:
        run(root, *command.split())
    (page,) = root.glob("results/**/mine.md")
    assert "Poly-1" in page.read_text() and "pair-0.45" in page.read_text()


def test_the_examples_are_in_the_projects_style(project):
    root, _ = project
    ruff = str(BIN / "ruff")
    run(root, ruff, "check", "--no-cache", "cmw_pipeline", "tests/methods/test_poly1.py")
    run(root, ruff, "format", "--no-cache", "--check", "cmw_pipeline", "tests/methods/test_poly1.py")


def test_an_example_beyond_its_room_would_be_seen(project):
    root, _ = project
    assert "0 broken" in run(root, str(BIN / "lint-imports"), "--no-cache")
