import copy
import html
import json
import math
import os
import re
import statistics
import subprocess
import sys
import time
import warnings
from pathlib import Path

import pandas as pd
import pytest

from cmw_pipeline.config import Plan, load
from cmw_pipeline.config.cell import Cell
from cmw_pipeline.config.contracts import Page, Run, Weighting
from cmw_pipeline.config.document import read_document
from cmw_pipeline.data.outside import lineage
from cmw_pipeline.engine import Seen
from cmw_pipeline.errors import ConfigError, IntegrityError
from cmw_pipeline.io.manifests import file_entry, is_stored, publish, sealed
from cmw_pipeline.io.receipts import is_current
from cmw_pipeline.io.tables import read_table, write_table
from cmw_pipeline.stages.table import make_table

PARAMS = Path(__file__).parents[2] / "params.yaml"
SHIPPED = read_document(PARAMS).values
PIXEL = b"\x89PNG fake"
VALUES = {"erm": [84.0, 85.0, 84.5], "mw-net": [84.2, 84.3, 84.4], "cmw-net": [97.5, 98.2, 97.9]}
SECONDS = {"erm": 10.0, "mw-net": 25.0, "cmw-net": 30.0}


def a_plan(tmp_path, **table):
    """A small grid; keys of the table, or `labels`, `grid`, `seeds`, can be changed."""
    raw = copy.deepcopy(SHIPPED)
    raw["seeds"] = table.pop("seeds", [0, 1, 2])
    raw["biases"] = {"here": table.pop("biases", ["asym-0.4"])}
    for method, label in table.pop("labels", {}).items():
        raw["methods"][method]["label"] = label
    block = {"dataset": "cifar10", "biases": "here", "methods": list(VALUES), "recipe": "cifar-noise"}
    grid = table.pop("grid", [block])
    raw["tables"] = {"small": {"title": "A small one", "grid": grid} | table}
    used = {"noise-teacher"} | {name for part in grid for name in part["methods"]}
    raw["methods"] = {name: entry for name, entry in raw["methods"].items() if name in used}
    raw["build"] = ["small"]
    (tmp_path / "params.yaml").write_text(json.dumps(raw, ensure_ascii=False))
    return Plan(load(tmp_path / "params.yaml"))


def rows_of(last, best=None):
    records = [
        {"protocol": "last", "split": "test", "metric": "accuracy", "value": last, "epoch": 39},
        {"protocol": "last", "split": "test", "metric": "loss", "value": 0.5, "epoch": 39},
        {"protocol": "best", "split": "test", "metric": "accuracy", "value": best or last, "epoch": 30},
    ]
    return pd.DataFrame(records)


def fake_run(root, run, rows, seconds=12.0, versions=None, **notes):
    """A finished run artefact with these rows, cost and notes."""
    with publish(run, {}, root) as draft:
        write_table(draft.path / "rows.parquet", rows, Run.ROWS.columns)
        draft.notes.update({"device": "cpu"} | notes)
    file = root / run.manifest
    manifest = json.loads(file.read_text())
    manifest["cost"] = {"seconds": seconds, "evaluation_seconds": seconds / 8, "peak_mib": 300.0}
    manifest["versions"] |= {"torch": "2.11.0"} | (versions or {})
    file.write_text(json.dumps(sealed(manifest)))


def fake_runs(root, plan, table="small", skip=(), **notes):
    artefact = plan.table(table)
    for role, run in artefact.inputs.items():
        if role in skip or not role.startswith("run:"):
            continue
        cell = Cell.parse(run.name)
        value = VALUES.get(cell.method, VALUES["cmw-net"])[cell.seed]
        fake_run(root, run, rows_of(value, value + 1), SECONDS.get(cell.method, 12.0), **notes)
        fake_line(root, run)
    return artefact


def fake_line(root, artefact):
    """Put something in the place of all that an artefact is made from."""
    for source in artefact.inputs.values():
        fake_line(root, source)
        if not is_stored(source, root):
            with publish(source, {}, root):
                pass


def fake_weighting(root, artefact):
    for role, export in artefact.inputs.items():
        if role.startswith("weighting:"):
            with publish(export, {}, root) as draft:
                (draft.path / "weighting.png").write_bytes(PIXEL)


def line(page, label, table=0):
    """The cells of a row of the n-th table on the page."""
    found = [text for text in page.splitlines() if text.startswith(f"| {label} ")]
    return [cell.strip() for cell in found[table].strip("|").split("|")][1:]


def role(plan, method, seed, bias="asym-0.4", dataset="cifar10", recipe="cifar-noise"):
    return f"run:{dataset}/{bias}/{method}/{recipe}/seed{seed}"


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    root = tmp_path_factory.mktemp("demo")
    plan = Plan(load(PARAMS))
    artefact = fake_runs(root, plan, "demo")
    fake_weighting(root, artefact)
    page = make_table(artefact, root, strict=True)
    return root, artefact, page


def test_demo_page(demo):
    root, _, page = demo
    text = page.read_text()
    assert page == root / "results" / "demo.md"
    for method, label in (("erm", "ERM"), ("mw-net", "MW-Net"), ("cmw-net", "CMW-Net")):
        mean, std = statistics.mean(VALUES[method]), statistics.stdev(VALUES[method])
        shown = f"**{mean:.2f}**" if method == "cmw-net" else f"{mean:.2f}"
        assert line(text, label) == [f"{shown} ± {std:.2f}"] * 3
        assert line(text, label, 1)[0].replace("*", "") == f"{mean + 1:.2f} ± {std:.2f}"
    assert line(text, "CMW-Net", 2)[0] == "30.0 s · 300 MiB · 3.00 × ERM"
    assert "optimistic" in text
    assert "All runs: torch 2.11.0." in text
    for word in ("Unverified", "smoke", "Mixed", "pub", "Δ"):
        assert word not in text
    assert "](demo.png)" in text
    assert "](demo-weighting-0.png)" in text


def test_demo_rows_are_tidy_in_plan_order(demo):
    root, artefact, _ = demo
    rows = read_table(root / "results" / "demo.parquet", Page.ROWS.columns)
    runs = [run for role, run in artefact.inputs.items() if role.startswith("run:")]
    assert len(rows) == 3 * len(runs)
    assert list(dict.fromkeys(rows["run"])) == [str(run.path) for run in runs]
    first = rows.iloc[0]
    assert (first["table"], first["dataset"], first["method"], first["seed"]) == ("demo", "digits", "erm", 0)
    assert (first["seconds"], first["device"], first["torch"]) == (10.0, "cpu", "2.11.0")
    assert (bool(first["verified"]), bool(first["smoke"])) == (True, False)


def test_receipt_describes_every_file(demo):
    root, artefact, _ = demo
    results = root / "results"
    receipt = json.loads((results / "demo.manifest.json").read_text())
    assert set(receipt) == {"format", "table", "digest", "inputs", "files"}
    assert receipt["digest"] == artefact.digest
    assert set(receipt["inputs"]) == set(artefact.inputs)
    assert receipt["files"] == {name: file_entry(results / name) for name in receipt["files"]}
    names = {"demo.md", "demo.parquet", "demo.png", "demo-weighting-0.png"}
    assert set(receipt["files"]) == names
    assert {file.name for file in results.glob("demo*")} == names | {"demo.manifest.json"}
    assert (results / "demo-weighting-0.png").read_bytes() == PIXEL


def test_rendering_again_without_torch_gives_the_same_bytes(demo):
    """In a process of its own: nothing that is in memory here can help, and torch cannot be imported."""
    root, _, _ = demo
    before = {file.name: file.read_bytes() for file in (root / "results").glob("demo*")}
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from pathlib import Path\n"
        "from cmw_pipeline.config import Plan, load\n"
        "from cmw_pipeline.stages.table import make_table\n"
        f"make_table(Plan(load({str(PARAMS)!r})).table('demo'), Path({str(root)!r}))\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=1800)
    assert {file.name: file.read_bytes() for file in (root / "results").glob("demo*")} == before


def test_missing_seeds_and_cells(tmp_path):
    plan = a_plan(tmp_path)
    skip = [role(plan, "mw-net", 2), *(role(plan, "cmw-net", seed) for seed in range(3))]
    artefact = fake_runs(tmp_path, plan, skip=skip)
    text = make_table(artefact, tmp_path).read_text()
    std = statistics.stdev(VALUES["mw-net"][:2])
    assert line(text, "MW-Net") == [f"84.25 ± {std:.2f} (n=2/3)"]
    assert line(text, "CMW-Net") == ["—"]
    assert line(text, "CMW-Net", 2) == ["—"]
    assert "not made yet: cifar10/asym-0.4/mw-net/cifar-noise/seed2, " in text
    with pytest.raises(IntegrityError, match="4 of 9 inputs are missing") as caught:
        make_table(artefact, tmp_path, strict=True)
    assert caught.value.exit_code == 3
    assert all(name.removeprefix("run:") in caught.value.message for name in skip)


def test_a_partial_table_lies_apart_leaves_the_whole_one_and_never_counts_as_done(tmp_path):
    plan = a_plan(tmp_path)
    artefact = fake_runs(tmp_path, plan)
    make_table(artefact, tmp_path)
    assert is_current(artefact, lineage(tmp_path))
    kept = {file: file.read_bytes() for file in (tmp_path / "results").rglob("small*") if file.is_file()}
    run = artefact.inputs[role(plan, "mw-net", 2)]
    (tmp_path / run.manifest).rename(tmp_path / "away")
    assert not is_current(artefact, lineage(tmp_path))
    page = make_table(artefact, tmp_path)
    assert page == tmp_path / "results" / "partial" / "small" / "small.md"
    assert "not made yet" in page.read_text()
    assert {file: file.read_bytes() for file in kept} == kept
    (tmp_path / "away").rename(tmp_path / run.manifest)
    assert is_current(artefact, lineage(tmp_path))
    assert make_table(artefact, tmp_path) == tmp_path / "results" / "small.md"
    assert not page.parent.exists()


def test_a_page_of_the_future_that_is_not_current_is_dated_before_its_flag(tmp_path):
    plan = a_plan(tmp_path)
    artefact = fake_runs(tmp_path, plan)
    page = make_table(artefact, tmp_path)
    assert Seen(plan, tmp_path).changes(artefact) == []
    page.write_text("another text")
    os.utime(page, (4e9, 4e9))
    (flag,) = Seen(plan, tmp_path).changes(artefact)
    assert page.stat().st_mtime < (tmp_path / flag).stat().st_mtime <= time.time() + 1


@pytest.mark.parametrize("groups", [["small", "moderate", "large"], ["all classes"]])
def test_what_a_run_learned_stands_beside_the_published_function_where_the_groups_are_the_same(
    tmp_path, groups
):
    run = "cifar10/asym-0.4/cmw-net/cifar-noise/seed0"
    artefact = fake_runs(tmp_path, a_plan(tmp_path, beside_published_weighting=run))
    curves = pd.DataFrame({"loss": [0.0, 1.0]} | {name: [0.9, 0.1] for name in groups})
    with publish(artefact.inputs[f"weighting:{run}"], {}, tmp_path) as draft:
        curves.to_csv(draft.path / Weighting.CURVE, index=False)
    if len(groups) < 3:
        with pytest.raises(ConfigError, match="has the groups all classes; published are small, moderate"):
            make_table(artefact, tmp_path)
        return
    page = make_table(artefact, tmp_path)
    assert "](small-beside-published.png)" in page.read_text()
    assert (page.parent / "small-beside-published.png").is_file()


@pytest.mark.parametrize("ending", [".md", ".parquet", ".png", ".manifest.json"])
def test_a_table_of_which_a_file_was_edited_or_removed_is_not_current(tmp_path, ending):
    artefact = fake_runs(tmp_path, a_plan(tmp_path))
    make_table(artefact, tmp_path)
    file = tmp_path / "results" / f"small{ending}"
    with file.open("ab") as stream:
        stream.write(b"x")
    assert not is_current(artefact, lineage(tmp_path))
    file.unlink()
    assert not is_current(artefact, lineage(tmp_path))


def test_a_table_of_runs_of_another_content_is_not_current(tmp_path):
    plan = a_plan(tmp_path)
    artefact = fake_runs(tmp_path, plan)
    make_table(artefact, tmp_path)
    path = tmp_path / artefact.inputs[role(plan, "mw-net", 2)].manifest
    manifest = json.loads(path.read_text())
    manifest["files"]["rows.parquet"]["sha256"] = "0" * 64
    path.write_text(json.dumps(manifest))
    assert not is_current(artefact, lineage(tmp_path))


def test_nothing_made_yet(tmp_path):
    plan = a_plan(tmp_path)
    text = make_table(plan.table("small"), tmp_path).read_text()
    assert line(text, "ERM") == ["—"]
    assert ", and 1 more." in text
    assert "![" not in text


def test_datasets_and_columns_of_other_methods_have_a_table_of_their_own(tmp_path):
    block = {"dataset": "cifar10", "biases": "here", "recipe": "cifar-noise"}
    grid = [block | {"methods": ["erm"]}, block | {"dataset": "digits", "methods": ["erm", "cmw-net"]}]
    text = make_table(a_plan(tmp_path, grid=grid).table("small"), tmp_path).read_text()
    assert [line(text, "ERM", table) for table in (0, 1)] == [["—"], ["—"]]
    assert line(text, "CMW-Net") == ["—"]
    assert text.count("| CMW-Net") == text.count("| ERM") / 2


def test_one_method_under_two_recipes_or_two_methods_of_one_label_are_two_rows(tmp_path):
    block = {"dataset": "cifar10", "biases": "here", "methods": ["erm", "cmw-net"]}
    grid = [block | {"recipe": "cifar-noise"}, block | {"recipe": "digits-cnn", "methods": ["erm"]}]
    plan = a_plan(tmp_path, grid=grid, labels={"cmw-net": "ERM"})
    text = make_table(fake_runs(tmp_path, plan), tmp_path).read_text()
    assert line(text, "ERM (erm, cifar-noise)")[0].startswith("84.50")
    assert line(text, "ERM (erm, digits-cnn)")[0].startswith("84.50")
    assert line(text, "ERM (cmw-net)")[0].startswith("**97.87**")


def test_error_is_100_minus_accuracy_and_the_smallest_wins(tmp_path):
    plan = a_plan(tmp_path, metric="error")
    text = make_table(fake_runs(tmp_path, plan), tmp_path).read_text()
    errors = [100 - value for value in VALUES["cmw-net"]]
    assert line(text, "CMW-Net") == [f"**{statistics.mean(errors):.2f}** ± {statistics.stdev(errors):.2f}"]
    assert line(text, "ERM") == ["15.50 ± 0.50"]
    rows = read_table(tmp_path / "results" / "small.parquet", Page.ROWS.columns)
    assert set(rows["metric"]) == {"accuracy", "loss"}
    assert rows.iloc[0]["value"] == 84.0


def test_published_value_difference_and_flag(tmp_path):
    plan = a_plan(tmp_path, published="table2")
    artefact = plan.table("small")
    ours = {"erm": [77.5, 78.5, 78.0], "mw-net": [90.0, 90.1, 89.9], "cmw-net": [93.0, 93.1, 93.2]}
    for run in artefact.inputs.values():
        cell = Cell.parse(run.name)
        fake_run(tmp_path, run, rows_of(ours[cell.method][cell.seed]))
    text = make_table(artefact, tmp_path).read_text()
    # 0.15 away at a standard error of 0.29; 0.17 away at 0.06; 0.40 away at 0.06
    assert line(text, "ERM") == ["78.00 ± 0.50 · pub 77.85±0.98 · Δ +0.15"]
    assert line(text, "MW-Net") == ["90.00 ± 0.10 · pub 90.17±0.11 · Δ -0.17 ‡"]
    assert line(text, "CMW-Net") == ["**93.10** ± 0.10 · pub 92.70±0.32 · Δ +0.40 ‡"]
    assert line(text, "CMW-Net", 1) == ["**93.10** ± 0.10"]
    for method, theirs, flagged in (("erm", 77.85, False), ("mw-net", 90.17, True)):
        error = statistics.stdev(ours[method]) / math.sqrt(3)
        assert (abs(statistics.mean(ours[method]) - theirs) > 2 * error) == flagged


def test_one_seed_is_compared_but_never_flagged(tmp_path):
    plan = a_plan(tmp_path, published="table2", seeds=[0])
    text = make_table(fake_runs(tmp_path, plan), tmp_path).read_text()
    assert line(text, "ERM") == ["84.00 · pub 77.85±0.98 · Δ +6.15"]
    assert "Not in table2" not in text


def test_a_label_that_matches_nothing_published_is_said(tmp_path):
    plan = a_plan(tmp_path, published="table2", labels={"cmw-net": "CMW-Net with CE loss"})
    text = make_table(plan.table("small"), tmp_path).read_text()
    assert "- Not in table2, by label: CMW-Net with CE loss." in text


def test_rows_whose_published_recipe_is_not_known_are_named(tmp_path):
    text = make_table(a_plan(tmp_path, published="table2").table("small"), tmp_path).read_text()
    (said,) = [row for row in text.splitlines() if "are not published, or another paper's" in row]
    assert said.endswith("ours: ERM, MW-Net.")  # CMW-Net's own code has its recipe


def test_a_row_that_is_only_quoted_is_shown_and_says_why(tmp_path):
    quoted = {"Forward": "Nobody knows it."}
    plan = a_plan(tmp_path, published="table2", quoted=quoted, biases=["asym-0.4", "asym-0.3"])
    text = make_table(fake_runs(tmp_path, plan), tmp_path).read_text()
    assert text.count("| Forward ") == 1
    assert "mean ± sample standard deviation of 3 seeds." in text
    assert line(text, "Forward")[0].startswith("pub ")
    assert line(text, "Forward")[1] == ""
    assert "- Forward: the published values only. Nobody knows it." in text
    with pytest.raises(ConfigError, match="'Fourward' is quoted, but table2 has no such row"):
        make_table(a_plan(tmp_path, published="table2", quoted={"Fourward": "?"}).table("small"), tmp_path)


def test_a_table_that_says_its_defaults_has_the_digest_of_one_that_does_not(tmp_path):
    plain = a_plan(tmp_path).table("small").digest
    assert a_plan(tmp_path, metric="accuracy", quoted={}, caption=None).table("small").digest == plain
    assert a_plan(tmp_path, metric="error").table("small").digest != plain


@pytest.mark.parametrize(
    ("table", "dataset", "bias", "value"),
    [
        ("table4", "cifar10", "plc:type1-0.35", "78.11"),
        ("table5", "cifar10", "plc:type1-0.35+plc:sym-0.3", "75.26"),
        ("table5", "cifar10", "plc:type1-0.35+plc:asym-0.3", "75.21"),
        ("table5", "cifar100", "plc:type1-0.35+plc:asym-0.3", "45.85"),
    ],
)
def test_published_values_of_feature_dependent_noise(tmp_path, table, dataset, bias, value):
    grid = [{"dataset": dataset, "biases": "here", "methods": ["erm"], "recipe": "cifar-feature"}]
    plan = a_plan(tmp_path, published=table, grid=grid, biases=[bias])
    text = make_table(fake_runs(tmp_path, plan), tmp_path).read_text()
    assert f" · pub {value}" in line(text, "ERM")[0]


def test_two_way_noise_is_not_compared_with_one_way_noise(tmp_path):
    plan = a_plan(tmp_path, published="table2", biases=["two-way:asym-0.4"])
    assert "pub" not in line(make_table(fake_runs(tmp_path, plan), tmp_path).read_text(), "ERM")[0]


def test_published_errors_and_notes(tmp_path):
    grid = [{"dataset": "cifar100", "biases": "here", "methods": ["erm", "cmw-net"], "recipe": "cifar-lt"}]
    labels = {"cmw-net": "LDAM loss"}
    plan = a_plan(tmp_path, metric="error", published="table1", grid=grid, labels=labels, biases=["lt-200"])
    text = make_table(fake_runs(tmp_path, plan), tmp_path).read_text()
    assert line(text, "ERM") == ["15.50 ± 0.50 · pub 65.16 · Δ -49.66 ‡"]
    assert "- Published LDAM loss at cifar100, lt-200: printed under IF 200; LDAM paper" in text


def test_unverified_and_smoke_are_said_and_smoke_is_not_compared(tmp_path):
    plan = a_plan(tmp_path, published="table2")
    text = make_table(fake_runs(tmp_path, plan, verified=False, smoke=True), tmp_path).read_text()
    assert "**Unverified data** (cifar10)" in text
    assert "smoke recipe: too short to compare" in text
    assert line(text, "ERM") == ["84.50 ± 0.50 †"]
    assert "Δ +" not in text
    rows = read_table(tmp_path / "results" / "small.parquet", Page.ROWS.columns)
    assert not rows["verified"].any()
    assert rows["smoke"].all()


def test_mixed_machines_are_said_and_their_costs_not_compared(tmp_path):
    plan = a_plan(tmp_path)
    artefact = fake_runs(tmp_path, plan, skip=[role(plan, "cmw-net", 0)])
    run = artefact.inputs[role(plan, "cmw-net", 0)]
    fake_run(tmp_path, run, rows_of(97.5), 3.0, {"torch": "2.12.0"}, device="cuda")
    text = make_table(artefact, tmp_path).read_text()
    assert "**Mixed torch versions** in one table: 2.11.0, 2.12.0." in text
    assert "**Mixed devices** in one table: cpu, cuda." in text
    assert "× ERM" not in line(text, "CMW-Net", 2)[0]
    assert "2.50 × ERM" in line(text, "MW-Net", 2)[0]


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (pd.concat([rows_of(90.0), rows_of(91.0)[:1]]), "last/test/accuracy is there more than once"),
        (rows_of(90.0)[:2], "no test accuracy of protocol best"),
        (rows_of(100.5), "not in 0..100"),
        (rows_of(math.nan), "not in 0..100"),
    ],
)
def test_rows_that_would_print_a_wrong_number_are_refused(tmp_path, rows, words):
    plan = a_plan(tmp_path)
    artefact = plan.table("small")
    run = artefact.inputs[role(plan, "erm", 0)]
    fake_run(tmp_path, run, rows)
    with pytest.raises(IntegrityError, match=words) as refused:
        make_table(artefact, tmp_path)
    assert refused.value.message.startswith(f"{tmp_path / run.path}: ")


def test_a_damaged_run_is_refused_not_missing(tmp_path):
    plan = a_plan(tmp_path)
    artefact = fake_runs(tmp_path, plan)
    damaged = tmp_path / artefact.inputs[role(plan, "erm", 0)].path / "rows.parquet"
    damaged.write_bytes(damaged.read_bytes()[:-1])
    with pytest.raises(IntegrityError, match="its manifest says"):
        make_table(artefact, tmp_path)


def test_no_receipt_beside_half_written_files(tmp_path, monkeypatch):
    plan = a_plan(tmp_path)
    artefact = fake_runs(tmp_path, plan)
    make_table(artefact, tmp_path)

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("cmw_pipeline.stages.table.render", interrupted)
    with pytest.raises(KeyboardInterrupt):
        make_table(artefact, tmp_path)
    assert not (tmp_path / "results" / "small.manifest.json").exists()


def test_text_cannot_break_the_table(tmp_path):
    plan = a_plan(tmp_path, title="One\n# two", labels={"erm": "A | B\nC"})
    text = make_table(fake_runs(tmp_path, plan), tmp_path).read_text()
    assert text.startswith("# One # two\n")
    assert "| A \\| B C " in text
    tables = [line for line in text.splitlines() if line.startswith("|")]
    assert len({len(line) for line in tables[:5]}) == 1


def shown(line):
    """What a reader of the page sees of a line: marks escaped, entities resolved."""
    return html.unescape(re.sub(r"\\([!-/:-@\[-`{-~])", r"\1", line))


WORDS = [
    r"\frac{1}{$",
    "$x_1$ costs $5",
    "<script>alert(1)</script>",
    "a *b* _c_ `d` ~e~ [f](http://g) &lt;",
    "方法 一",
    "שיטה",
    "शैली",
    "mum \U0001f469\u200d\U0001f467",
    "A | B",
]


@pytest.mark.parametrize("figure", ["points", "bars"])
@pytest.mark.parametrize("word", WORDS)
def test_a_label_of_any_script_and_any_mark_shows_as_it_is_written(tmp_path, word, figure):
    plan = a_plan(tmp_path, title=word, labels={"erm": word, "mw-net": word}, figure=figure)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # matplotlib warns of letters that its font lacks
        page = make_table(fake_runs(tmp_path, plan), tmp_path, strict=True).read_text()
    assert f"# {word}" in shown(page.splitlines()[0])
    assert any(f"| {word} (erm) " in shown(line) for line in page.splitlines())
    assert not re.search(r"<[a-z/!?]", page)
    assert (tmp_path / "results" / "small.png").stat().st_size > 1000


def test_html_and_tables_in_a_caption_are_no_more_than_their_letters(tmp_path):
    caption = "**Bold** <script>alert(1)</script>\n\n| method | forged |\n|---|---|\n| ours | 100.00 |"
    page = make_table(fake_runs(tmp_path, a_plan(tmp_path, caption=caption)), tmp_path).read_text()
    assert "**Bold** &lt;script>" in page
    assert "<script" not in page
    assert not any(line.startswith("| ours") or line.startswith("|---|---|") for line in page.splitlines())


@pytest.mark.parametrize("word", ["a\x1b[2J", "a\u202eb", "a\u2066b", "a\x00b", "\x9b1m", "  ", ""])
def test_what_steers_a_terminal_or_turns_the_letters_round_is_refused_before_anything_runs(tmp_path, word):
    for changes in ({"labels": {"erm": word}}, {"title": word}, {"caption": word}, {"quoted": {word: "x"}}):
        with pytest.raises(ConfigError):
            a_plan(tmp_path, **changes)


def test_what_a_killed_rendering_left_is_removed_by_the_next_and_nothing_else_is(tmp_path):
    results = tmp_path / "results"
    (results / "numbers").mkdir(parents=True)
    scraps = [".small.md.abcd1234.md", ".small.png.x_9zzzzz.png", ".small-weighting-0.png.abcdefgh.png"]
    scraps += [".small.manifest.json.abcdefgh.json", "numbers/.small.json.abcdefgh.json"]
    others = [".small.png", ".smaller.md.abcd1234.md", ".small.md.mine.md", "small.notes.md"]
    for name in (*scraps, *others):
        (results / name).write_text("{")
    plan = a_plan(tmp_path)
    make_table(fake_runs(tmp_path, plan), tmp_path)
    left = {str(file.relative_to(results)) for file in results.rglob("*") if file.is_file()}
    assert not left & set(scraps)
    assert left >= set(others)


def test_a_recipe_that_is_not_the_published_one_is_marked_without_anybody_saying_so(tmp_path):
    short = {"dataset": "cifar10", "biases": "here", "methods": list(VALUES), "recipe": "digits-cnn"}
    plan = a_plan(tmp_path, published="table2", grid=[short])
    page = make_table(fake_runs(tmp_path, plan), tmp_path).read_text()
    assert "pub " not in page.split("## Notes")[0]
    assert "†" in line(page, "ERM")[0]
    assert "**not the published network and epochs** (digits-cnn)" in page
