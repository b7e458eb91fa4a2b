"""Files that repeat something of the code say the same as the code."""

import difflib
import json
import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from ruamel.yaml import YAML

from cmw_pipeline import __version__
from cmw_pipeline.config.artefact import STAGE_VERSIONS
from cmw_pipeline.config.json_schema import file_schema
from cmw_pipeline.config.load import load
from cmw_pipeline.config.plan import Plan

ROOT = Path(__file__).parents[2]
PARAMS = load(ROOT / "params.yaml")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
DVC = YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"]


def test_the_json_schema_is_that_of_the_models():
    file = ROOT / "workflow" / "schemas" / "params.schema.json"
    wanted = json.dumps(file_schema(), indent=2) + "\n"
    diff = "\n".join(
        difflib.unified_diff(
            file.read_text().splitlines(), wanted.splitlines(), str(file), "the models", n=2, lineterm=""
        )
    )
    assert not diff, f"run `make schema`\n{diff}"


@pytest.mark.parametrize("table", list(PARAMS.tables))
def test_every_table_of_params_plans(table):
    plan = Plan(PARAMS)
    assert len(plan.table(table).inputs) >= len(plan.cells(table)) > 0
    assert plan.artefacts([table])


# --- dvc.yaml


def out_of(entry):
    (item,) = entry.items() if isinstance(entry, dict) else [(entry, {})]
    return item


def test_dvc_keeps_the_outputs_of_every_stage_but_the_tables_which_git_keeps():
    (stage,) = DVC.values()
    outs = dict(out_of(entry) for entry in stage["outs"])
    assert sorted(outs) == sorted(f"results/{name}" for name in STAGE_VERSIONS if name != "table")
    assert all(options.get("persist") for options in outs.values()), "else DVC removes them before each run"
    made, command = stage["cmd"].removeprefix("mkdir -p ").split(" && ")
    assert made.split() == list(outs), "DVC wants its outputs to be there, though empty"
    assert command == "snakemake all audits"


# --- requirements


def pins():
    """(name, version, marker) of each line of the lock file."""
    for line in (ROOT / "requirements.lock").read_text().splitlines():
        if line.strip() and not line.startswith("#"):
            yield line


def test_the_lock_pins_versions_and_names_no_place_to_get_them_from():
    for line in pins():
        assert re.fullmatch(r"[a-z0-9][a-z0-9._-]*==[0-9][\w.!+]*( ; .+)?", line), line
        assert "://" not in line, line
        assert "@" not in line, line
        assert "+" not in line.split(";")[0], f"{line}: a local version, which no index serves"
        Requirement(line)


def test_the_lock_without_cuda_pins_all_else_alike():
    without = [line for line in pins() if not line.startswith(("nvidia-", "cuda-", "triton"))]
    assert 0 < len(without) < len(list(pins()))
    assert (ROOT / "requirements-cpu.lock").read_text().splitlines() == without


EXTRAS = PROJECT["optional-dependencies"]


@pytest.mark.parametrize(
    "text", PROJECT["dependencies"] + EXTRAS["pipeline"] + EXTRAS["audit"] + EXTRAS["dev"]
)
def test_every_dependency_is_pinned_to_a_version_it_admits(text):
    wanted = Requirement(text)
    locked = [Requirement(line) for line in pins()]
    found = [r for r in locked if canonicalize_name(r.name) == canonicalize_name(wanted.name)]
    assert found, f"{wanted.name} is not in requirements.lock"
    for pin in found:
        (version,) = [specifier.version for specifier in pin.specifier]
        assert version in wanted.specifier, f"{pin} does not fit {wanted}"


def test_one_version_everywhere():
    assert PROJECT["version"] == __version__
    citation = YAML(typ="safe").load(ROOT / "CITATION.cff")
    assert citation["version"] == __version__
    assert f"## [{__version__}]" in (ROOT / "CHANGELOG.md").read_text()


def test_the_license_is_the_one_that_is_declared():
    text = (ROOT / "LICENSE").read_text()
    assert PROJECT["license"] == YAML(typ="safe").load(ROOT / "CITATION.cff")["license"] == "Apache-2.0"
    assert "Apache License" in text
    assert "END OF TERMS AND CONDITIONS" in text
