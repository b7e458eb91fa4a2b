"""A plain install: the weighting function and the stages by hand, without what only the pipeline needs."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner
from packaging.requirements import Requirement

from cmw_pipeline.cli.main import main

ROOT = Path(__file__).parents[2]
EXTRA = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]["pipeline"]
PARAMS = ["--params", str(ROOT / "params.yaml")]
MODULES = {"scikit-learn": "sklearn"}
"""Libraries that are imported by another name than they are installed by."""
LEFT_OUT = [MODULES.get(name, name) for name in (Requirement(text).name for text in EXTRA)]
NEED_THEM = {
    "cmw_pipeline.tables.canvas",
    "cmw_pipeline.tables.figures",
    "cmw_pipeline.tables.points",
    "cmw_pipeline.stages.export",
    "cmw_pipeline.stages.table",
}
"""They draw."""


def without_the_extra(script):
    """What a script prints in a process to which the libraries of the extra do not exist."""
    away = f"import sys\nfor name in {LEFT_OUT}:\n    sys.modules[name] = None\n"
    done = subprocess.run([sys.executable, "-c", away + script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_what_others_loops_use_imports_little():
    script = (
        "import sys, cmw_pipeline\ncmw_pipeline.load_weighting, cmw_pipeline.Reweighter\nprint(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    heavy = {*LEFT_OUT, "snakemake", "dvc", "matplotlib", "pandas", "sklearn", "torchvision", "timm"}
    assert not heavy & set(done.stdout.split())


def test_all_but_the_figures_is_there_without_the_extra():
    script = """
import importlib, pkgutil
import cmw_pipeline
for module in pkgutil.walk_packages(cmw_pipeline.__path__, "cmw_pipeline."):
    try:
        importlib.import_module(module.name)
    except ModuleNotFoundError as error:
        print(module.name)
"""
    assert set(without_the_extra(script)) == NEED_THEM


@pytest.mark.parametrize("library", LEFT_OUT)
def test_a_missing_library_is_one_line_with_the_command(library, monkeypatch, tmp_path):
    """Said by whichever command comes to need it."""

    def needs(*_, **__):
        __import__(library)

    monkeypatch.setitem(sys.modules, library, None)
    monkeypatch.setattr(sys.modules["cmw_pipeline.cli.main"], "Plan", needs)
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main, [*PARAMS, "check"])
    assert result.exit_code == 5
    assert result.output.splitlines() == [
        f"cmw: {library} is not installed; this command needs it",
        "Hint: `pip install 'cmw-pipeline[pipeline]'` brings it",
    ]


def test_digits_without_scikit_learn_are_asked_for_in_one_line(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main, [*PARAMS, "download", "digits"])
    assert (result.exit_code, len(result.output.splitlines())) == (5, 2)
    assert not list((tmp_path / "results" / "raw").glob("**/manifest.json"))


def test_a_module_of_our_own_that_is_missing_is_a_bug_and_shows_its_trace(monkeypatch):
    def needs(*_):
        raise ModuleNotFoundError(name="cmw_pipeline.nowhere")

    monkeypatch.setattr(sys.modules["cmw_pipeline.cli.main"], "Plan", needs)
    monkeypatch.chdir(ROOT)
    assert isinstance(CliRunner().invoke(main, ["check"]).exception, ModuleNotFoundError)
