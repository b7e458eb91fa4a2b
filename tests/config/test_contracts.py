"""What each stage is asked and what it leaves is what the contracts say.

The tables of files in the docs are written anew by ``python tests/config/test_contracts.py``.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from cmw_pipeline.config import Plan, load
from cmw_pipeline.config.artefact import STAGE_VERSIONS
from cmw_pipeline.config.contracts import GIVES, File, LabelFileRequest, Page, TrainRequest
from cmw_pipeline.config.pages import AuditPage

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs" / "artefacts.md"
BEGIN, END = "<!-- files -->\n", "<!-- end -->"
LIBRARIES = {"pandas", "sklearn", "matplotlib", "snakemake", "dvc", "timm", "torchvision", "scipy"}


def files(leaves):
    return [file for file in vars(leaves).values() if isinstance(file, File)]


def columns(file):
    listed = ", ".join(f"`{name}` {kind}" for name, kind in file.columns.items())
    return f": {listed}" if listed else ""


def in_the_docs():
    lines = ["", "| stage | is asked for | file | holds |", "|---|---|---|---|"]
    stages = {}
    for stage, gives in GIVES.items():
        for request, leaves in gives.items():
            stages.setdefault((request, leaves), []).append(f"`{stage}`")
    for (request, leaves), named in stages.items():
        asked = ", ".join(f"`{name}`" for name in request.model_fields) if leaves is not Page else "the table"
        page = leaves in (Page, AuditPage)
        first = [", ".join(named), asked or "nothing"]
        for file in files(leaves):
            name = f"`NAME{file.name}`" if page else f"`{file.name}`"
            lines.append(f"| {' | '.join([*first, name, file.holds + columns(file)])} |")
            first = ["", ""]
    return "\n".join(lines) + "\n\n"


def around(text):
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return before + BEGIN, END + after


def test_the_docs_show_the_files_of_every_stage():
    before, after = around(DOCS.read_text())
    assert DOCS.read_text() == before + in_the_docs() + after, "run python tests/config/test_contracts.py"


def test_every_stage_has_a_contract_and_no_name_twice_in_a_folder():
    assert GIVES.keys() == STAGE_VERSIONS.keys()
    for gives in GIVES.values():
        for leaves in gives.values():
            names = [file.name for file in files(leaves)]
            assert len(names) == len(set(names)) > 0


def test_a_request_that_was_written_down_is_the_one_that_was_asked():
    """Of every artefact of every table: as a manifest holds it, in JSON."""
    plan = Plan(load(ROOT / "params.yaml"))
    planned = plan.everything().values()
    assert {artefact.stage for artefact in planned} == GIVES.keys()
    for artefact in planned:
        kind = type(artefact.request)
        assert kind in GIVES[artefact.stage]
        assert kind.model_validate(json.loads(json.dumps(artefact.request.whole))) == artefact.request


def test_a_request_that_is_not_one_is_refused():
    with pytest.raises(ValueError, match="seed"):
        TrainRequest.model_validate({"source": "digits", "seed": -1})
    with pytest.raises(ValueError, match="values to unpack"):
        LabelFileRequest(source="digits", labels="sym-0.2+asym-0.1")


PARAMS = """
build: [tiny]
seeds: [0]
bias_seed: 1
datasets: {digits: {source: digits}}
biases: {tiny: [asym-0.4]}
methods: {cmw-net: {kind: erm, weighting: {kind: cmw-net, meta_set: clean-2, meta_every: 4}}}
recipes:
  quick: {network: {name: small-cnn, width: 4}, optimizer: {lr: 0.1}, epochs: 1, batch_size: 100}
tables: {tiny: {title: Tiny, grid: [{dataset: digits, biases: tiny, methods: [cmw-net], recipe: quick}]}}
"""


def test_labels_are_bent_and_classifiers_trained_without_libraries_of_other_work(tmp_path):
    """The commands one after the other, each in a process of its own; only the first may need them."""
    (tmp_path / "params.yaml").write_text(PARAMS)
    script = """
import sys
from cmw_pipeline.cli import main
main(sys.argv[1:], standalone_mode=False)
print(*sys.modules)
"""
    cell = "digits/asym-0.4/cmw-net/quick/seed0"
    names = {
        "download": "digits",
        "inject": "digits/asym-0.4",
        "metaset": "digits/asym-0.4/clean-2",
        "train": cell,
    }
    for command in names.items():
        done = subprocess.run(
            [sys.executable, "-c", script, *command], cwd=tmp_path, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        if command[0] != "download":
            assert not LIBRARIES & set(done.stdout.split()), command
    run = Plan(load(tmp_path / "params.yaml")).train(cell)
    manifest = json.loads((tmp_path / run.manifest).read_text())
    (leaves,) = GIVES["train"].values()
    assert manifest["files"].keys() <= {file.name for file in files(leaves)}


if __name__ == "__main__":
    before, after = around(DOCS.read_text())
    DOCS.write_text(before + in_the_docs() + after)
