"""A mistyped name is answered with the command that was meant; shells complete names; cells are listed."""

import pytest
from click.shell_completion import ShellComplete

from cmw_pipeline.cli import main
from cmw_pipeline.config import Plan, load
from cmw_pipeline.config.suggest import meant, names
from cmw_pipeline.engine import snakemake
from tests.support.processes import CHECKOUT
from tests.support.project import cmw

PLAN = Plan(load(CHECKOUT / "params.yaml"))
CELL = "digits/asym-0.4/cmw-net/digits-cnn/seed0"


@pytest.fixture(autouse=True)
def here(monkeypatch):
    monkeypatch.chdir(CHECKOUT)


@pytest.mark.parametrize(
    ("typed", "right"),
    [
        ("download dgits", "download digits"),
        ("inject digits", "inject digits/asym-0.4"),
        ("inject digits/aysm-0.4", "inject digits/asym-0.4"),
        ("metaset digits/asym-0.4/cleen-10", "metaset digits/asym-0.4/clean-10"),
        ("train digits/asym-0.4/CMW-Nte/digits-cnn/seed0", f"train {CELL}"),
        ("train digits/asym-0.4/cmw-net/digits-cnn", f"train {CELL}"),
        ("train digits/sym-0.4/cmw-net-transferred/digits-cnn/seed0", None),
        ("table dmeo", "table demo"),
        ("cost tabel2", "cost table2"),
        ("list dmeo", "list demo"),
        ("make dmeo", "make demo"),
        ("status dmeo", "list demo"),
    ],
)
def test_the_hint_is_the_command_that_was_meant(typed, right):
    code, said = cmw(*typed.split())
    right = right or "transfer digits/sym-0.4/cmw-net-transferred/digits-cnn/seed0"
    assert (code, said.splitlines()[-1]) == (2, f"Hint: `cmw {right}`")


@pytest.mark.parametrize("stage", ["download", "inject", "metaset", "train", "transfer", "export", "table"])
def test_every_name_that_is_offered_is_one(stage):
    offered = names(PLAN, stage)
    assert offered and len(set(offered)) == len(offered)
    for name in offered[:: max(1, len(offered) // 25)]:
        assert PLAN.resolve(stage, name).name == (f"table/{name}" if stage == "never" else name)


def test_a_part_that_could_be_right_is_left_as_it_is():
    assert meant(PLAN, "inject", "dgits/sym-0.37") == "digits/sym-0.37"
    assert meant(PLAN, "train", "digits/asym-0.4/cmw-nte/digits-cnn/seed7") == CELL.replace("seed0", "seed7")
    assert meant(PLAN, "download", "zzzz") is None


def completions(words, begun):
    shell = ShellComplete(main, {}, "cmw", "_CMW_COMPLETE")
    return [item.value for item in shell.get_completions(words, begun)]


def test_a_shell_completes_names():
    assert completions(["table"], "dem") == ["demo"]
    assert CELL in completions(["train"], "digits/asym-0.4/cmw-n")
    assert completions(["make"], "demo") == ["demo"]
    assert completions(["--params", "nowhere.yaml", "train"], "d") == []


@pytest.mark.parametrize("words", [["-h"], ["train", "-h"]])
def test_short_help(words):
    code, said = cmw(*words)
    assert code == 0 and said.startswith("Usage: ")


def test_cells_are_listed_by_the_names_that_other_commands_take():
    code, said = cmw("list", "demo", "--method", "CMW-Net", "--bias", "asym-0.4")
    assert code == 0
    assert [line.split()[0] for line in said.splitlines()] == [CELL[:-1] + seed for seed in "012"]
    code, said = cmw("list")
    assert code == 0 and [line.split()[0] for line in said.splitlines()] == list(PLAN.params.tables)


def test_one_row_is_made_by_snakemake_with_what_else_was_said(monkeypatch):
    asked = []
    monkeypatch.setattr(snakemake, "run_snakemake", lambda words, params: asked.append((words, params)) or 3)
    code, said = cmw(
        "make", "demo", "--method", "CMW-Net", "--bias", "asym-0.4", "--seed", "0", "--", "--cores", "1"
    )
    ((words, params),) = asked
    assert words[:3] == ["--cores", "1", "--"] and params is None
    assert words[3:] == [str(PLAN.train(CELL).manifest)]
    assert code == 3 and said.startswith(CELL)
    assert cmw("make", "demo", "--", "-n")[0] == 3
    assert asked[1][0] == ["-n", "--", "results/demo.md"]


def test_the_page_about_one_row_can_be_followed(monkeypatch):
    asked = []
    monkeypatch.setattr(snakemake, "run_snakemake", lambda words, params: asked.append(words) or 0)
    page = (CHECKOUT / "docs" / "one-row.md").read_text()
    commands = [line.partition("  #")[0].split() for line in page.splitlines() if line.startswith("cmw ")]
    said = [cmw(*words[1:]) for words in commands]
    assert len(commands) == 6 and not any(code for code, _ in said)
    runs = [sum(word.startswith("results/") for word in words) for words in asked]
    assert runs == [3, 1, 24, 3] and len(said[0][1].splitlines()) == 3


def test_a_folder_without_a_workflow_is_said(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    code, said = cmw("--params", CHECKOUT / "params.yaml", "make", "demo")
    assert (code, "no workflow/Snakefile here" in said) == (2, True)


def test_the_status_of_a_project_at_rest_and_of_a_table(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    params = ["--params", CHECKOUT / "params.yaml"]
    assert cmw(*params, "status") == (0, "no run is at work; `cmw list` shows what there is\n")
    code, said = cmw(*params, "status", "demo")
    assert code == 0 and said.startswith("demo: 36 cells, 36 to train\n")
