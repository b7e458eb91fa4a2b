"""`snakemake results/audit/NAME.html`: an audit in the DAG, made again for other data or parameters only."""

import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cmw_pipeline.config import Plan, load
from cmw_pipeline.engine import Seen
from tests.support import forked
from tests.support.processes import environment
from tests.support.project import cmw, made, new_project

pytestmark = pytest.mark.workflow
PARAMS = """
build: []
seeds: [0]
bias_seed: 1
datasets: {{digits: {{source: digits}}}}
biases: {{tiny: [asym-0.4]}}
methods: {{erm: {{kind: erm, label: ERM}}}}
recipes:
  quick: {{network: {{name: small-cnn, width: 4}}, optimizer: {{lr: 0.1}}, epochs: 1, batch_size: 100}}
tables: {{}}
"""
PAGE = "results/audit/mine.html"


def save(file, wrong=6, seed=0):
    """Three clusters; every sixth label is wrong, and stands right beside; some rows are vouched for."""
    rng = np.random.default_rng(seed)
    true = np.repeat(np.arange(3), 40)
    given = np.where(np.arange(120) % wrong == 0, (true + 1) % 3, true)
    names = np.array(["ant", "bee", "cow"])
    frame = pd.DataFrame(rng.normal(size=(120, 4)) + 4 * np.eye(4)[true], columns=list("abcd"))
    trusted = (np.arange(120) % 10 == 1) & (given == true)
    frame = frame.assign(
        label=names[given], clean_label=names[true], trusted=trusted, group=np.arange(120) // 2
    )
    frame.to_csv(file, index=False)


@pytest.fixture
def project(tmp_path, monkeypatch):
    project = new_project(tmp_path / "a project", PARAMS)
    monkeypatch.chdir(project.root)
    save(project.root / "mine.csv")
    made("import", "mine.csv")
    return project


def flags():
    plan = Plan(load())
    return Seen(plan).changes(plan.audit("mine"))


def test_an_imported_dataset_is_audited_with_all_that_its_columns_say(project):
    made("audit", PAGE)
    summary = json.loads((project.root / "results/audit/mine/audit.json").read_text())
    assert summary["meta_set"] == "trusted" and summary["trusted"] > 3
    assert summary["known"]["wrong"] == pytest.approx(summary["train"] / 6, abs=4)
    assert summary["known"]["average_precision"] > 0.9
    made("predict", "results/audit/mine", "mine.csv")


def test_an_audit_is_made_again_for_other_data_and_for_other_parameters_only(project):
    made("audit", PAGE)
    page = project.root / PAGE
    before = page.read_bytes()
    assert not flags()
    made("import", "mine.csv", "--again")
    assert not flags(), "the same data, read again"
    made("audit", PAGE)
    assert page.read_bytes() == before
    save(project.root / "mine.csv", seed=1)
    assert not flags(), "what was imported has not changed"
    made("import", "mine.csv", "--again")
    assert flags()
    made("audit", PAGE)
    assert page.read_bytes() != before and not flags()
    file = project.root / "params/mine.yaml"
    file.write_text(file.read_text().replace("{data: mine}", "{data: mine, seed: 3}"))
    assert flags()


def test_a_report_that_was_touched_is_made_again(project):
    made("audit", PAGE)
    suspects = project.root / "results/audit/mine/suspects.csv"
    suspects.write_text(suspects.read_text().replace("ant", "bee"))
    assert flags()


def test_a_review_is_honoured_and_an_audit_made_again_for_what_it_says_only(project):
    folder, review = project.root / "results/audit/mine", Path("reviewed.csv")
    params = Path("params/mine.yaml")
    fast = params.read_text().replace("{data: mine}", "{data: mine, folds: 0}")
    params.write_text(fast)
    made("audit", PAGE)
    suspects = pd.read_csv(folder / "suspects.csv")
    marks = suspects[suspects["in_list"]][["id", "sampled"]].assign(verdict="y", label=suspects["suggested"])
    params.write_text(fast.replace("folds: 0", f"folds: 0, review: {review}"))
    before = (project.root / PAGE).read_bytes()
    code, said = cmw("audit", PAGE)
    assert code == 2 and f"{review}: no such file" in said
    assert (project.root / PAGE).read_bytes() == before
    marks.to_csv(review, index=False)
    assert flags()
    made("audit", PAGE)
    summary = json.loads((folder / "audit.json").read_text())
    assert summary["certificate"]["wrong"] == marks["sampled"].sum()
    after = pd.read_csv(folder / "suspects.csv").set_index("id")["given"]
    assert (after[marks["id"]].to_numpy() == marks["label"]).all()
    assert not flags()
    review.write_bytes(review.read_bytes())
    os.utime(review, (2e9, 2e9))
    assert not flags(), "the same marks, of another time"
    marks.assign(verdict="n").to_csv(review, index=False)
    assert flags()
    made("audit", PAGE)
    assert json.loads((folder / "audit.json").read_text())["certificate"]["wrong"] == 0
    assert not flags()
    review.unlink()
    assert flags()


def test_labels_bent_from_data_that_have_changed_are_refused(project):
    made("inject", "mine/sym-0.2")
    save(project.root / "mine.csv", seed=1)
    made("import", "mine.csv", "--again")
    code, said = cmw("audit", "mine/sym-0.2")
    assert code == 3 and "made from another content" in said and "cmw inject mine/sym-0.2" in said


def test_what_was_imported_stays_where_the_new_data_do_not_fit(project):
    frame = pd.read_csv("mine.csv")
    frame.assign(e=1.0).to_csv("mine.csv", index=False)
    code, said = cmw("import", "mine.csv", "--again")
    assert code == 2 and "vectors-3-4 in the parameters; the data are vectors-3-5" in said
    made("audit", PAGE)


def test_snakemake_makes_it_once(project):
    def snakemake(*words):
        command = ["snakemake", *words, PAGE]
        done = forked.run(command, project.root, environment())
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    snakemake()
    assert (project.root / PAGE).is_file()
    assert "Nothing to be done" in snakemake("-n")
    save(project.root / "mine.csv", seed=1)
    made("import", "mine.csv", "--again")
    assert "audit" in snakemake("-n") and "Nothing to be done" not in snakemake("-n")


def test_dvc_has_it_made_again_for_another_review(project):
    params, stages = Path("params/mine.yaml"), Path("dvc.yaml")
    entry = "{data: mine, method: erm, folds: 0, review: reviewed.csv}"
    params.write_text(params.read_text().replace("{data: mine}", entry))
    stages.write_text(stages.read_text().replace("    params:\n", "    deps: [reviewed.csv]\n    params:\n"))
    Path("reviewed.csv").write_text("id,verdict,label,sampled\n1,n,,True\n")
    project.run("dvc", "repro")
    assert "up to date" in project.run("dvc", "status")
    Path("reviewed.csv").write_text("id,verdict,label,sampled\n1,y,cow,True\n")
    assert "reviewed.csv" in project.run("dvc", "status")
    project.run("dvc", "repro")
    suspects = pd.read_csv("results/audit/mine/suspects.csv").set_index("id")
    assert suspects.loc[1, "given"] == "cow"


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("{data: nothing}", "'nothing' is not in the section datasets"),
        ("{data: digits/blur-3}", "blur-3"),
        ("{data: digits, folds: 1}", "1 folds; should be 0, or at least 2"),
        ("{data: digits, method: magic}", "cmw-net-sl"),
    ],
)
def test_an_audit_that_makes_no_sense_is_refused(project, entry, message):
    (project.root / "params/more.yaml").write_text(f"audits: {{more: {entry}}}\n")
    with (project.root / "params.yaml").open("a") as params:  # ends with what the import included
        params.write("- params/more.yaml\n")
    code, said = cmw("check")
    assert code == 2 and "audits.more" in said and message in said
