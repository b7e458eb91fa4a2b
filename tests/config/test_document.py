"""The parameter file and its folder: one document, `like` in place of copies, and what DVC leaves of them."""

import json
import shutil
from pathlib import Path

import pytest
from dvc.utils.hydra import apply_overrides
from jsonschema import Draft202012Validator

from cmw_pipeline.config import Plan, load
from cmw_pipeline.config.document import read_document, read_yaml
from cmw_pipeline.config.json_schema import file_schema
from cmw_pipeline.engine.params import VARIABLE, params_of_this_run
from cmw_pipeline.errors import ConfigError

ROOT = Path(__file__).parents[2]
SHIPPED = [ROOT / "params.yaml", *sorted((ROOT / "params").glob("*.yaml"))]
MAIN = """
include: [params]
build: [small]
seeds: [0]
bias_seed: 1
datasets: {digits: {source: digits}}
biases: {few: [asym-0.4]}
methods: {erm: {kind: erm, label: ERM}}
"""
MORE = """
recipes:
  short:
    network: {name: small-cnn, width: 8}
    optimizer: {lr: 0.1, momentum: 0.5}
    schedule: {name: steps, milestones: [1], factor: 0.5}
    epochs: 2
    batch_size: 100
tables:
  small:
    title: Small
    grid: [{dataset: digits, biases: few, methods: [erm], recipe: short}]
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(MAIN)
    Path("params").mkdir()
    Path("params/more.yaml").write_text(MORE)
    return tmp_path


def refusal(path="params.yaml"):
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert caught.value.exit_code == 2
    return str(caught.value)


def with_recipes(text):
    """The folder's second file, with these recipes more."""
    Path("params/more.yaml").write_text(MORE.replace("tables:\n", f"{text}\ntables:\n"))


# --- one document


def test_what_is_included_is_part_of_it(folder):
    one = folder / "elsewhere" / "all.yaml"
    one.parent.mkdir()
    one.write_text(MAIN.replace("include: [params]\n", "") + MORE)
    assert load() == load(one)
    assert [*Plan(load()).artefacts()] == [*Plan(load(one)).artefacts()]


def test_a_file_that_includes_nothing_is_read_alone(folder):
    alone = MAIN.replace("include: [params]\n", "")
    Path("params.yaml").write_text(alone)
    assert "params.yaml: 3 problems" in refusal()
    Path("own").mkdir()
    Path("own/study.yaml").write_text(MAIN.replace("[params]", "[../params/more.yaml, ../params]"))
    Path("params.yaml").write_text(MAIN)
    assert load("own/study.yaml") == load("params.yaml")


@pytest.mark.parametrize(
    ("listed", "expected"),
    [
        ("params", "params.yaml: include: should be a list of files and folders, such as [params]"),
        ("[1]", "params.yaml: include: should be a list of files and folders, such as [params]"),
        ("[study]", "study: no such file"),
        ("[params, params/own.yaml]", "params/own.yaml: no such file"),
    ],
)
def test_what_cannot_be_included_is_one_line(folder, listed, expected):
    Path("params.yaml").write_text(MAIN.replace("[params]", listed))
    assert refusal().startswith(expected)
    Path("params.yaml").write_text(MAIN)
    Path("params/own.yaml").write_text("include: [more.yaml]")
    assert refusal().startswith("params/own.yaml: include: only the main file has this key")


def test_a_file_of_ones_own_in_the_folder_is_part_of_it_and_scraps_of_editors_are_not(folder):
    Path("params/own.yml").write_text("recipes: {mine: {like: short, epochs: 3}}")
    for name in (".own.yaml", "own.yaml~", "#own.yaml#", "notes.txt"):
        Path("params", name).write_text("a: [")
    Path("params/empty.yaml").write_text("# nothing yet\n")
    assert load().recipes["mine"].epochs == 3


def test_one_name_in_two_files_is_refused_with_both(folder):
    Path("params/own.yaml").write_text(
        "seeds: [1]\nrecipes: {short: {epochs: 1}}\nmethods: {erm: {kind: erm}}\n"
    )
    assert refusal().splitlines() == [
        "params.yaml: 3 names stand in two files",
        "  seeds: in params.yaml and in params/own.yaml; give one another name",
        "  recipes.short: in params/more.yaml and in params/own.yaml; give one another name",
        "  methods.erm: in params.yaml and in params/own.yaml; give one another name",
    ]


def test_a_problem_is_said_with_the_file_that_it_is_in(folder):
    Path("params.yaml").write_text(MAIN.replace("seeds: [0]", "seeds: [-1]"))
    Path("params/more.yaml").write_text(MORE.replace("epochs", "epoch"))
    Path("params/typo.yaml").write_text("recipez: {}")
    assert [line.split(": ")[:2] for line in refusal().splitlines()[1:]] == [
        ["  seeds.0", "Input should be greater than or equal to 0; found -1"],
        ["  params/more.yaml", "recipes.short"],
        ["  params/more.yaml", "recipes.short.epoch"],
        ["  params/typo.yaml", "recipez"],
    ]
    Path("params/typo.yaml").write_text("a: [")
    assert refusal().startswith("params/typo.yaml:1:5: ")
    Path("params/typo.yaml").write_text("- a")
    assert refusal() == "params/typo.yaml: should have sections: methods, recipes, tables, ..."


def test_a_run_of_the_workflow_keeps_all_files_as_one(folder, monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setenv(VARIABLE, "")  # restored afterwards, whatever the call sets
    monkeypatch.delenv(VARIABLE)
    with_recipes("  mine: {like: short, epochs: 3}")
    params = params_of_this_run()
    shutil.rmtree("params")
    assert params_of_this_run() == params
    assert params.recipes["mine"].epochs == 3


# --- like


def test_an_entry_is_like_another_but_for_what_it_says(folder):
    with_recipes(
        """
  next: {like: mine, optimizer: {momentum: 0.9}}
  mine: {like: short, epochs: 3, optimizer: {lr: 0.2}, schedule: {milestones: [1, 2]}}
  other: {like: short, network: {name: resnet32}, schedule: {name: cosine}}
"""
    )
    recipes = load().recipes
    short, mine, other = (
        recipes["short"].model_dump(),
        recipes["mine"].model_dump(),
        recipes["other"].model_dump(),
    )
    assert mine == short | {
        "epochs": 3,
        "optimizer": short["optimizer"] | {"lr": 0.2},
        "schedule": short["schedule"] | {"milestones": [1, 2]},
    }
    assert recipes["next"].model_dump() == mine | {"optimizer": mine["optimizer"] | {"momentum": 0.9}}
    assert other["network"]["width"] is None, "a network of another name starts anew"
    assert other["schedule"] == {"name": "cosine", "floor": 0.0, "warmup_epochs": 0}


def test_a_method_may_be_like_one_of_another_kind_and_file(folder):
    Path("params/own.yaml").write_text(
        """
methods:
  one:
    kind: erm
    label: One
    weighting: {kind: cmw-net, meta_set: clean-2}
    where: {"digits/*": {weighting: {meta_every: 2}}}
  two:
    like: one
    kind: gce
    label: Two
    weighting: {kind: mw-net}
    where: {"digits/*": {weighting: {meta_every: 3}}, "*/none": {weighting: {meta_every: 4}}}
  plain: {like: erm, label: Plain}
"""
    )
    methods = load().methods
    two = methods["two"]
    assert (two.kind, two.weighting.kind, two.weighting.meta_set) == ("gce", "mw-net", "clean-2")
    every = {name: two.at(*name.split("/")).weighting.meta_every for name in ("digits/lt-10", "digits/none")}
    assert every == {"digits/lt-10": 3, "digits/none": 4}
    assert methods["plain"].kind == "erm"


@pytest.mark.parametrize(
    ("recipes", "lines"),
    [
        (
            "  a: {like: shor}",
            ["params/more.yaml: recipes.a.like: 'shor' is not in the section recipes; did you mean"],
        ),
        (
            "  a: {like: 3}",
            ["params/more.yaml: recipes.a.like: should be the name of one of the recipes; found 3"],
        ),
        ("  a: {like: a}", ["params/more.yaml: recipes.a.like: goes in a circle: a -> a"]),
        (
            "  a: {like: c}\n  b: {like: a}\n  c: {like: b}\n  d: {like: a}",
            ["params/more.yaml: recipes.a.like: goes in a circle: a -> c -> b -> a"],
        ),
    ],
)
def test_a_parent_that_cannot_be_is_refused_in_one_line(folder, recipes, lines):
    with_recipes(recipes)
    found = refusal().splitlines()
    assert found[0] == "params.yaml: 1 problem"
    assert len(found) == 1 + len(lines)
    assert all(line.strip().startswith(wanted) for line, wanted in zip(found[1:], lines, strict=True))


def test_a_mistake_of_the_parent_is_said_once(folder):
    with_recipes("  a: {like: short}\n  b: {like: a, epochs: 0}")
    Path("params/more.yaml").write_text(Path("params/more.yaml").read_text().replace("lr: 0.1", "lr: -1"))
    lines = refusal().splitlines()[1:]
    assert [line.split(": ")[1] for line in lines] == ["recipes.short.optimizer.lr", "recipes.b.epochs"]


def test_other_sections_know_no_like(folder):
    Path("params/own.yaml").write_text("datasets: {other: {like: digits}}")
    assert "params/own.yaml: datasets.other.like: unknown key" in refusal()


def test_like_changes_no_digest(folder):
    copied = "  mine:\n" + "\n".join(MORE.split("tables:")[0].splitlines()[3:])
    with_recipes(copied.replace("epochs: 2", "epochs: 3"))
    before = {name: recipe.model_dump() for name, recipe in load().recipes.items()}
    with_recipes("  mine: {like: short, epochs: 3}")
    assert {name: recipe.model_dump() for name, recipe in load().recipes.items()} == before


# --- DVC, editors


@pytest.mark.parametrize("file", SHIPPED, ids=lambda path: path.name)
def test_dvc_changes_one_value_and_leaves_the_rest(file, tmp_path):
    """If this fails after an edit: `make params` writes the file as DVC does."""
    copy = shutil.copy(file, tmp_path / file.name)
    apply_overrides(copy, [])
    assert copy.read_text() == file.read_text()
    found = read_yaml(file)
    section = "recipes" if "recipes" in found else "tables"
    key, value = ("epochs", "17") if section == "recipes" else ("metric", "error")
    name, entry = next((n, e) for n, e in found[section].items() if key in e)
    apply_overrides(copy, [f"{section}.{name}.{key}={value}"])
    old, new = file.read_text().splitlines(), copy.read_text().splitlines()
    changed = [(a, b) for a, b in zip(old, new, strict=True) if a != b]
    assert changed == [(f"    {key}: {entry[key]}", f"    {key}: {value}")]


def test_dvc_and_we_read_the_same():
    from dvc.utils.serialize import load_yaml

    assert all(load_yaml(file) == read_yaml(file) for file in SHIPPED)


def test_dvc_tracks_every_file():
    stages = read_dvc()
    for stage in stages.values():
        assert [name for entry in stage["params"] for name in entry] == [
            str(f.relative_to(ROOT)) for f in SHIPPED
        ]


def read_dvc():
    from dvc.utils.serialize import load_yaml

    return load_yaml(ROOT / "dvc.yaml")["stages"]


@pytest.mark.parametrize("file", SHIPPED, ids=lambda path: path.name)
def test_editors_find_nothing_wrong_with_the_shipped_files(file):
    first = file.read_text().splitlines()[0]
    schema = json.loads((file.parent / first.removeprefix("# yaml-language-server: $schema=")).read_text())
    assert schema == file_schema()
    assert not list(Draft202012Validator(schema).iter_errors(read_yaml(file)))


@pytest.mark.parametrize(
    ("content", "right"),
    [
        ({}, True),
        ({"recipes": {"a": {"like": "b", "optimizer": {"momentum": 0.5}}}}, True),
        ({"methods": {"a": {"like": "b", "weighting": {"meta_every": 2}}}}, True),
        ({"methods": {"a": {"kind": "erm", "gamma": 2.0}}}, False),
        ({"methods": {"a": {"like": "b", "weighting": {"meta_evry": 2}}}}, False),
        ({"recipes": {"a": {"like": "b", "epochs": "many"}}}, False),
        ({"recipes": {"a": {"like": "b", "schedule": {"name": "cosine", "factor": 0.1}}}}, False),
        ({"recipez": {}}, False),
    ],
)
def test_editors_complete_parts_and_see_typing_errors(content, right):
    assert Draft202012Validator(file_schema()).is_valid(content) == right


def test_the_merged_document_has_no_like_left():
    values = read_document(SHIPPED[0]).values
    assert not [
        entry
        for section in values.values()
        if isinstance(section, dict)
        for entry in section.values()
        if "like" in entry
    ]
