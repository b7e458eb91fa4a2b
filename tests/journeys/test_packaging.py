"""What a wheel holds, and that a project begins from it anywhere; the wheel alone, without the checkout."""

import subprocess
import sys
import zipfile

import pytest

from cmw_pipeline.io import project
from tests.support.processes import CHECKOUT, environment
from tests.support.project import cmw

PACKAGES = ("cmw_pipeline", "snakemake_logger_plugin_cmw")


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The files of a wheel, unpacked as an installer would."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    done = subprocess.run(build, cwd=CHECKOUT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = folder.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(folder / "site")
    return folder / "site"


def run(installed, folder, *words):
    """The command of the wheel, in a folder."""
    start = "import sys; from cmw_pipeline.cli import run; sys.argv[0] = 'cmw'; run()"
    env = environment(PYTHONPATH=str(installed))
    return subprocess.run(
        [sys.executable, "-P", "-c", start, *words], cwd=folder, env=env, capture_output=True, text=True
    )


def tracked(*places):
    """The files that git keeps, by path from the root."""
    listed = ["git", "ls-files", "-z", "--", *places]
    return subprocess.check_output(listed, cwd=CHECKOUT, text=True).split("\0")[:-1]


def test_every_file_of_the_packages_is_in_the_wheel(installed):
    if not (CHECKOUT / ".git").exists():
        pytest.skip("not a git checkout")
    names = [name for name in tracked(*PACKAGES) if (CHECKOUT / name).is_file()]
    assert len(names) > 250
    assert not [name for name in names if not (installed / name).is_file()]


def test_a_project_begins_from_the_wheel_and_plans(installed, tmp_path):
    """The files are the checkout's; Snakemake finds workflow, parameters and our logger."""
    done = run(installed, tmp_path, "init", "my-project")
    assert done.returncode == 0, done.stderr
    for name in tracked(*project.PARTS) if (CHECKOUT / ".git").exists() else ["params.yaml"]:
        assert (tmp_path / "my-project" / name).read_bytes() == (CHECKOUT / name).read_bytes()
    assert sorted(path.name for path in (tmp_path / "my-project").iterdir()) == sorted(project.PARTS)
    done = run(installed, tmp_path / "my-project", "make", "demo", "--", "-n")
    assert done.returncode == 0, done.stderr
    assert "45 jobs: 1 download" in done.stdout


def test_a_checkout_begins_one_too(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".gitignore").write_text("mine\n")
    assert cmw("init") == (0, "params.yaml says what there is to make; next: cmw make demo\n")
    assert cmw("check")[0] == 0
    assert (tmp_path / ".gitignore").read_text() == "mine\n"


@pytest.mark.parametrize("name", ["params.yaml", "workflow", "params", "dvc.yaml"])
def test_nothing_of_a_project_is_overwritten(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).write_text("mine")
    code, said = cmw("init")
    assert code == 2 and f"{name} is there already\nHint: name a new folder: `cmw init FOLDER`" in said
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_folder_that_cannot_be_written_is_left_as_it_was(tmp_path, monkeypatch):
    monkeypatch.setattr(project.shutil, "copytree", full)
    monkeypatch.chdir(tmp_path)
    code, said = cmw("init", "my-project")
    assert (code, said) == (5, "cmw: my-project: disk full\n")
    assert not list((tmp_path / "my-project").iterdir())


def full(*_, **__):
    raise OSError(28, "No space left on device")


def test_the_demo_is_made_in_a_project_of_its_own_and_continued(tmp_path, monkeypatch):
    """Its page is asked for in a new folder; later in the same; and, in a project, in that one."""
    asked = []

    def snakemake(words, params=None, root=None):
        asked.append((words, root.resolve()))
        (root / "results").mkdir(exist_ok=True)
        (root / "results" / "demo.md").write_text("the page\n")
        return 0

    monkeypatch.setattr("cmw_pipeline.engine.snakemake.run_snakemake", snakemake)
    monkeypatch.chdir(tmp_path)
    code, said = cmw("demo")
    assert code == 0 and said.endswith("the page\n\ncmw-demo/results/demo.md\n")
    assert cmw("demo")[0] == 0
    monkeypatch.chdir(tmp_path / "cmw-demo")
    assert cmw("demo")[0] == 0
    assert asked == [(["--", "results/demo.md"], tmp_path / "cmw-demo")] * 3
