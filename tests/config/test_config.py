"""params.yaml: what is refused and in which words; and the plan: one cell, one path."""

import json
import os
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from cmw_pipeline.config import Plan, load
from cmw_pipeline.config.cell import Cell
from cmw_pipeline.config.schema import Params
from cmw_pipeline.errors import ConfigError

SHIPPED = Path(__file__).parents[2] / "params.yaml"

BASE = """
build: [small]
seeds: [0, 1]
bias_seed: 1
datasets:
  digits: {source: digits}
  cifar10: {source: cifar10}
biases:
  few: [asym-0.4, sym-0.4]
methods:
  erm: {kind: erm, label: ERM}
  cmw-net: {kind: erm, label: CMW-Net, weighting: {kind: cmw-net, meta_set: clean-10}}
  moved: {kind: erm, label: Moved, weighting: {kind: frozen, run: digits/asym-0.4/cmw-net/short/seed0}}
recipes:
  short:
    network: {name: small-cnn}
    optimizer: {lr: 0.1}
    epochs: 2
    batch_size: 100
  long:
    network: {name: small-cnn}
    optimizer: {lr: 0.1}
    epochs: 3
    batch_size: 100
tables:
  small:
    title: Small
    weighting_figures: [digits/asym-0.4/cmw-net/short/seed0]
    grid:
      - {dataset: digits, biases: few, methods: [erm, cmw-net, moved], recipe: short}
"""


def base():
    return YAML(typ="safe", pure=True).load(BASE)


def edited(*changes):
    """The base document with values set at dotted places."""
    document = base()
    for place, value in changes:
        *parents, last = [int(step) if step.isdigit() else step for step in place.split(".")]
        node = document
        for step in parents:
            node = node[step]
        node[last] = value
    return document


def plan_of(*changes):
    return Plan(Params.model_validate(edited(*changes)))


@pytest.fixture
def refusal(tmp_path):
    """The message with which a text or a document is refused."""

    def message(content):
        file = tmp_path / "params.yaml"
        if isinstance(content, str):
            file.write_text(content)
        else:
            YAML(typ="safe", pure=True).dump(content, file)
        with pytest.raises(ConfigError) as caught:
            load(file)
        assert caught.value.exit_code == 2
        assert "Traceback" not in str(caught.value)
        return str(caught.value).replace(f"{tmp_path}/", "")

    return message


# --- reading


def test_base_and_shipped_files_are_accepted(tmp_path):
    (tmp_path / "params.yaml").write_text(BASE)
    assert load(tmp_path / "params.yaml").seeds == [0, 1]
    assert Plan(load(SHIPPED)).artefacts()


@pytest.mark.parametrize(
    ("place", "value", "expected"),
    [
        # unknown keys, with the nearest allowed one beside them
        ("recipes.short.epoch", 3, "recipes.short.epoch: unknown key; did you mean 'epochs'?"),
        ("seed", 3, "seed: unknown key; did you mean 'seeds'?"),
        ("methods.erm.labell", "x", "methods.erm.labell: unknown key; did you mean 'label'?"),
        (
            "methods.cmw-net.weighting.meta_evry",
            10,
            "methods.cmw-net.weighting.meta_evry: unknown key; did you mean 'meta_every'?",
        ),
        (
            "recipes.short.schedule",
            {"name": "cosine", "floorr": 0.1},
            "recipes.short.schedule.floorr: unknown key; did you mean 'floor'?",
        ),
        # `label` is a key of methods, not of recipes
        ("recipes.short.label", "x", "recipes.short.label: unknown key; there are: augment, batch_size,"),
        ("methods.erm.rtae", 0.4, "methods.erm.rtae: unknown key; there are: kind, label"),
        # values
        (
            "recipes.short.optimizer.lr",
            "0.4",
            "recipes.short.optimizer.lr: Input should be a valid number; found the text '0.4'"
            " (write it without quotes)",
        ),
        ("recipes.short.optimizer.lr", True, "Input should be a valid number; found True"),
        ("recipes.short.optimizer.lr", float("nan"), "Input should be a finite number; found nan"),
        ("recipes.short.optimizer.lr", float("inf"), "Input should be a finite number; found inf"),
        ("recipes.short.optimizer.lr", -0.1, "Input should be greater than 0; found -0.1"),
        ("recipes.short.epochs", 2.5, "recipes.short.epochs: Input should be a valid integer"),
        ("recipes.short.epochs", 0, "recipes.short.epochs: Input should be greater than or equal to 1"),
        ("seeds", [], "seeds: List should have at least 1 item"),
        ("seeds", [-1], "seeds.0: Input should be greater than or equal to 0; found -1"),
        ("seeds", [2**31], "seeds.0: Input should be less than 2147483648"),
        ("biases.few", ["sym-1.4"], "biases.few.0: 'sym-1.4': the rate is 1.4; it must lie in [0, 1]"),
        ("biases.few", ["sym-0.40"], "biases.few.0: 'sym-0.40': write it as 'sym-0.4'"),
        ("biases.few", [], "biases.few: List should have at least 1 item"),
        ("methods.cmw-net.weighting.meta_set", "clean-0", "write clean-K, lowest-K or random-min"),
        (
            "methods.cmw-net.kind",
            "cwm-net",
            "methods.cmw-net: there is no kind 'cwm-net'; there are: abc, active-bias, ",
        ),
        ("methods.cmw-net.kind", "em", "methods.cmw-net: there is no kind 'em'; did you mean 'erm'?"),
        (
            "methods.erm",
            {"kind": "mw-net", "label": "MW-Net", "meta_set": "lowest-10"},
            "methods.erm: mw-net is a weighting: write `kind: erm, weighting: {kind: mw-net, ...}`",
        ),
        (
            "methods.erm",
            {"kind": "dividemix", "label": "DivideMix", "weighting": {"kind": "class-balanced"}},
            "methods.erm: dividemix takes no weighting: its two networks tell each other which labels count",
        ),
        (
            "methods.cmw-net.weighting.kind",
            "cwm-net",
            "methods.cmw-net.weighting: there is no kind 'cwm-net'; did you mean 'cmw-net'?",
        ),
        (
            "methods.erm.weighting",
            {"kind": "mcw"},
            "methods.erm.weighting: the key 'meta_set' is missing",
        ),
        (
            "methods.erm.labels_from",
            {"method": "mae"},
            "methods.erm.labels_from.method: 'mae' is not in the section methods",
        ),
        (
            "methods.erm",
            {"kind": "elr-plus", "label": "ELR+"},
            "grid.0.methods.0: 'erm' needs a moving average of the network; give its recipes an ema",
        ),
        # names that point nowhere
        (
            "methods.cmw-net.where",
            {"digit/*": {"start_epoch": 1}},
            "methods.cmw-net.where.digit/*: fits no dataset; did you mean 'digits'?",
        ),
        (
            "methods.cmw-net.where",
            {"digits": {"start_epoch": 1}},
            "methods.cmw-net.where.digits: no pattern of dataset/bias; write digits/*",
        ),
        ("build", ["smalll"], "build.0: 'smalll' is not in the section tables; did you mean 'small'?"),
        ("datasets.digits.source", "mnist", "should be one of digits, digits-0-4, digits-5-9, cifar10, "),
        (
            "tables.small.grid.0.dataset",
            "svhn",
            "tables.small.grid.0.dataset: 'svhn' is not in the section datasets; there are: cifar10, digits",
        ),
        ("tables.small.grid.0.methods", ["mae"], "grid.0.methods.0: 'mae' is not in the section methods"),
        ("tables.small.grid.0.recipe", "tiny", "grid.0.recipe: 'tiny' is not in the section recipes"),
        ("tables.small.grid.0.biases", "many", "grid.0.biases: 'many' is not in the section biases"),
        (
            "biases.few",
            ["sym-0.4", "two-way:asym-0.4"],
            "biases.few.1: 'two-way:asym-0.4' cannot be used on digits: digits has no class map"
            " two-way; it has one-way, plc",
        ),
        (
            "methods.moved.weighting.run",
            "digits/asym-0.4/erm/short/seed0",
            "methods.moved.weighting.run: 'erm' learns no weighting function; name a method under mw-net",
        ),
        (
            "methods.moved.weighting.run",
            "digits/two-way:asym-0.4/cmw-net/short/seed0",
            "digits has no class map two-way",
        ),
        (
            "methods.moved.weighting.run",
            "digits/asym-4/cmw-net/short/seed0",
            "methods.moved.weighting.run: 'asym-4': the rate is 4",
        ),
        (
            "methods.moved.weighting.run",
            "digits/asym-0.4/cmw-net/short/seed007",
            "is not a cell; write dataset/bias/method/recipe/seedN",
        ),
        (
            "tables.small.weighting_figures",
            ["cmw-net"],
            "tables.small.weighting_figures.0: 'cmw-net' is not a cell",
        ),
    ],
)
def test_one_wrong_value_one_line(refusal, place, value, expected):
    message = refusal(edited((place, value)))
    assert message.startswith("params.yaml: 1 problem\n"), message
    assert expected in message


@pytest.mark.parametrize(
    ("written", "rate"),
    [("1e-3", 0.001), ("1e4", 1e4), ("1.5E+2", 150.0), (".5", 0.5), ("2.", 2.0), ("012", 12), ("1_0", 10)],
)
def test_numbers_are_those_of_yaml_1_2(tmp_path, written, rate):
    (tmp_path / "params.yaml").write_text(BASE.replace("{lr: 0.1}", f"{{lr: {written}}}", 1))
    assert load(tmp_path / "params.yaml").recipes["short"].optimizer.lr == rate


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("{lr: 0.1}", '{lr: "1e-3"}', "found the text '1e-3' (write it without quotes)"),
        (
            "{lr: 0.1}",
            "{lr: 1:30}",
            "optimizer.lr: Input should be a valid number; found '1:30'",
        ),
        ("{lr: 0.1}", "{lr: 0.1, nesterov: yes}", "optimizer.nesterov: Input should be a valid boolean;"),
        ("{lr: 0.1}", "{lr: 0.1, nesterov: yes}", "found the text 'yes'; write true"),
        ("{lr: 0.1}", "{lr: 0.1, nesterov: Off}", "found the text 'Off'; write false"),
        ("{lr: 0.1}", '{lr: 0.1, nesterov: "true"}', "found the text 'true'; write true"),
        ("label: ERM", "label: 2024", "should be a valid string; found 2024, which YAML reads as a number"),
        ("title: Small", "title: 1.10", "found 1.1, which YAML reads as a number; quote it"),
        ("title: Small", "title: 2026-03-04", "found 2026-03-04, which YAML reads as a date; quote it"),
        ("title: Small", "title: true", "found true, which YAML reads as a switch; quote it"),
    ],
)
def test_words_that_yaml_reads_as_something_else(refusal, old, new, expected):
    message = refusal(BASE.replace(old, new, 1))
    assert message.startswith("params.yaml: 1 problem\n")
    assert expected in message


def test_words_that_older_yaml_read_as_switches_are_text(tmp_path):
    (tmp_path / "params.yaml").write_text(
        BASE.replace("erm: {kind: erm, label: ERM}", "on: {kind: erm, label: no}").replace("[erm,", "[on,")
    )
    assert load(tmp_path / "params.yaml").methods["on"].label == "no"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("seeds: [0]\nseeds: [1]\n", "params.yaml:2:1: duplicate key 'seeds', first on line 1"),
        ("a:\n  b: 1\n  b: 2\n", "params.yaml:3:3: duplicate key 'b', first on line 2"),
        ("a: !!python/object/apply:os.system [ls]\n", "params.yaml:1:4: could not determine a constructor"),
        ("a: !!python/object:pathlib.Path {}\n", "could not determine a constructor for the tag"),
        ("a: &x [1]\nb: *x\n", "params.yaml:2:4: aliases are not allowed"),
        ("1: x\n", "params.yaml:1:1: the key 1 is not text; quote it"),
        ("true: x\n", "the key True is not text; quote it"),
        ("? [a]\n: x\n", "params.yaml:1:3: a key is not text"),
        ("a: {<<: {b: 1}}\n", "params.yaml:1:5: the key << is not allowed; a method or recipe takes over"),
        ("seeds: [2020-13-45]\n", "params.yaml:1:9: '2020-13-45' cannot be read as timestamp"),
        ("seeds: !!int ''\n", "params.yaml:1:8: '' cannot be read as int"),
        ("seeds: " + "9" * 5000, "cannot be read as int"),
        ("a: [1\n", "params.yaml:2:1: expected ',' or ']'"),
        ("a: \x00", "params.yaml:1:4: the character U+0000 cannot stand in YAML"),
        ("a: 1\nb: x\x07", "params.yaml:2:5: the character U+0007 cannot stand in YAML"),
        ("seeds: [0x" + "f" * 100_000 + "]", "params.yaml:1:9: a number of 400000 bits; no number here has"),
        ("seeds: [1" + "0" * 400 + "]", "params.yaml:1:9: a number of 1329 bits; no number here has more"),
        ("seeds: [1" + ":1" * 20_000 + "]", "seeds.0: Input should be a valid integer; found '1:1:1"),
        ('a: "\\ud800"', r"params.yaml:1:4: '\ud800' is half a character; write the character itself"),
        ('a: "\\ud83d\\ude00"', r"params.yaml:1:4: '\ud83d' is half a character"),
        ('a: {"\\udc00": 1}', r"params.yaml:1:5: '\udc00' is half a character"),
        ('a: "\\U00110000"', "params.yaml: cannot be read"),
        ('a: "\\UFFFFFFFF"', "params.yaml: cannot be read"),
        ('biases: {"a\\0": [none]}', r"'biases.a\x00': String should match pattern"),
        ("[" * 5000, "lie too deep in each other"),
        ("- " * 20_000, "lie too deep in each other"),
        ("".join(" " * deep + "a:\n" for deep in range(900)), "lie too deep in each other"),
        ("methods: {m: {like: " + "[" * 300 + "]" * 300 + "}}", "should be the name of one of the methods"),
        ("? " + "k" * 3000 + "\n: 1\n", "unknown key"),
        ("", "(top level): Input should be a valid dictionary"),
        ("- 1\n", "(top level): Input should be a valid dictionary"),
    ],
)
def test_documents_that_are_not_parameters(refusal, text, expected):
    message = refusal(text)
    assert expected in message
    assert len(message) < 700


def test_alias_bomb_is_refused_before_it_expands(refusal):
    lines = ["a0: &a0 [x, x]"] + [f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]" for n in range(1, 60)]
    assert "params.yaml:2:10: aliases are not allowed" in refusal("\n".join(lines))


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(ConfigError, match=r"no such file\nHint: run the command in the project folder"):
        load(tmp_path / "absent.yaml")
    with pytest.raises(ConfigError, match="cannot be read"):
        load(tmp_path)
    os.mkfifo(tmp_path / "pipe.yaml")
    for endless in (tmp_path / "pipe.yaml", Path("/dev/zero")):
        with pytest.raises(ConfigError, match="cannot be read: this is a pipe or a device, not a file"):
            load(endless)
    big = tmp_path / "big.yaml"
    big.write_text("#" * 1_000_001)
    with pytest.raises(ConfigError, match="larger than 1,000,000 bytes"):
        load(big)
    latin = tmp_path / "latin.yaml"
    latin.write_bytes(b"title: \xe9")
    with pytest.raises(ConfigError, match="cannot be read"):
        load(latin)


def test_all_problems_at_once(refusal):
    document = edited(
        ("seeds", []),
        ("build", ["small", "large"]),
        ("recipes.short.epoch", 1),
        ("recipes.long.optimizer.lr", "1e-3"),
        ("biases.few", ["two-way:asym-0.4", "sym-1.4"]),
        ("tables.small.grid.0.methods", ["erm", "mae"]),
        ("datasets.cifar10.source", "mnist"),
    )
    del document["recipes"]["long"]["epochs"]
    message = refusal(document)
    assert message.startswith("params.yaml: 9 problems\n")
    places = [line.split(":")[0].strip() for line in message.splitlines()[1:]]
    assert sorted(places) == [
        "biases.few.0",
        "biases.few.1",
        "build.1",
        "datasets.cifar10.source",
        "recipes.long",
        "recipes.long.optimizer.lr",
        "recipes.short.epoch",
        "seeds",
        "tables.small.grid.0.methods.1",
    ]


def test_a_bias_list_used_twice_is_reported_once(refusal):
    document = edited(("biases.few", ["two-way:asym-0.4"]))
    grid = document["tables"]["small"]["grid"]
    grid.append(dict(grid[0], methods=["erm"]))
    assert refusal(document).startswith("params.yaml: 1 problem\n")


def test_many_problems_are_cut(refusal):
    message = refusal(edited(("seeds", [-1] * 100)))
    assert message.startswith("params.yaml: 100 problems\n")
    assert message.endswith("... and 60 more")


def places(node, path=()):
    if path:
        yield path
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for step, child in items:
        yield from places(child, (*path, step))


scalars = st.sampled_from([None, True, 5, 1.5, "x", "a/b/c/d/seed0", [], {}])
wrong_values = scalars | st.lists(scalars, min_size=1, max_size=2) | st.dictionaries(st.just("a"), scalars)


@given(st.sampled_from(list(places(base()))), wrong_values)
@settings(max_examples=150)
def test_any_value_anywhere_is_accepted_or_refused_in_words(tmp_path, place, value):
    document = base()
    node = document
    for step in place[:-1]:
        node = node[step]
    node[place[-1]] = value
    file = tmp_path / "params.yaml"
    file.write_text(json.dumps(document))
    try:
        load(file)
    except ConfigError as error:
        assert "problem" in error.message


# --- the plan

cells = st.builds(
    Cell,
    dataset=st.sampled_from(["digits", "cifar10"]),
    bias=st.sampled_from(["none", "lt-10", "sym-0.4", "sym-0.44", "other:sym-0.4", "lt-10+sym-0.4"]),
    method=st.sampled_from(["erm", "cmw-net", "moved"]),
    recipe=st.sampled_from(["short", "long"]),
    seed=st.integers(0, 30),
)


@given(cells, cells)
@settings(max_examples=200)
def test_paths_are_equal_where_cells_are(one, other):
    plan, again = plan_of(), plan_of()
    assert plan.run(one).path == again.run(one).path
    assert (plan.run(one).path == plan.run(other).path) == (one == other)
    assert Cell.parse(one.name) == one


def test_no_artefact_lies_inside_another():
    paths = [artefact.path for artefact in Plan(load(SHIPPED)).artefacts(["demo", "cifar-smoke"]).values()]
    assert len(set(paths)) == len(paths)
    assert not any(path in other.parents for path in paths for other in paths)


def digests(plan):
    return {(artefact.stage, artefact.name): artefact.digest for artefact in plan.artefacts().values()}


def changed(*changes):
    """(stage, name) of the planned artefacts whose digest differs from the base's, without removed ones."""
    before, after = digests(plan_of()), digests(plan_of(*changes))
    return {key for key in after if after[key] != before.get(key)}


def test_changing_a_rate_changes_only_what_depends_on_it():
    touched = changed(("biases.few", ["asym-0.4", "sym-0.5"]))
    assert touched == {
        ("inject", "digits/sym-0.5"),
        ("metaset", "digits/sym-0.5/clean-10"),
        ("table", "small"),
        *{("train", f"digits/sym-0.5/{m}/short/seed{s}") for m in ("erm", "cmw-net") for s in (0, 1)},
        *{("transfer", f"digits/sym-0.5/moved/short/seed{s}") for s in (0, 1)},
    }
    assert changed(("biases.few", ["asym-0.4", "sym-0.4"])) == set()


def test_changing_a_label_or_a_title_changes_only_the_table():
    assert changed(("methods.cmw-net.label", "Ours")) == {("table", "small")}
    assert changed(("tables.small.title", "Other")) == {("table", "small")}


def test_changing_a_recipe_changes_only_training_and_what_follows():
    stages = {stage for stage, _ in changed(("recipes.short.epochs", 5))}
    assert stages == {"train", "export", "transfer", "table"}
    assert changed(("recipes.long.epochs", 5)) == set()


def test_changing_one_method_leaves_the_others_alone():
    touched = changed(("methods.cmw-net.weighting.groups", 4))
    assert ("train", "digits/sym-0.4/erm/short/seed0") not in touched
    assert {stage for stage, _ in touched} == {"train", "export", "transfer", "table"}
    assert not any(stage == "metaset" for stage, _ in touched)


def test_adding_a_seed_keeps_the_trained_cells():
    touched = changed(("seeds", [0, 1, 2]))
    assert all(name.endswith("seed2") for stage, name in touched if stage != "table")


def test_bias_seed_changes_all_but_the_download():
    untouched = set(digests(plan_of())) - changed(("bias_seed", 2))
    assert untouched == {("download", "digits")}


def test_integers_and_floats_of_one_value_are_one_request():
    assert changed(("recipes.short.optimizer", {"lr": 0.1, "weight_decay": 5.0e-4, "momentum": 0.9})) == set()
    one, other = (plan_of(("recipes.short.optimizer.lr", rate)) for rate in (1, 1.0))
    assert digests(one) == digests(other)


def test_key_order_does_not_matter():
    document = base()
    document["recipes"]["short"] = dict(reversed(document["recipes"]["short"].items()))
    assert digests(Plan(Params.model_validate(document))) == digests(plan_of())


NAMES = [
    ("download", "digits"),
    ("inject", "digits/lt-10+other:sym-0.2"),
    ("metaset", "digits/sym-0.4/lowest-5"),
    ("train", "digits/sym-0.4/erm/short/seed0"),
    ("export", "digits/asym-0.4/cmw-net/long/seed3"),
    ("transfer", "digits/sym-0.4/moved/short/seed1"),
    ("table", "small"),
]


@pytest.mark.parametrize(("stage", "name"), NAMES)
def test_resolve_by_name_path_and_manifest(stage, name):
    plan = plan_of()
    artefact = getattr(plan, stage)(name)
    assert str(artefact.path).startswith(f"results/{stage}/{name}-")
    for text in (name, str(artefact.path), artefact.manifest):
        found = plan.resolve(stage, text)
        assert (found.stage, found.name, found.digest) == (stage, name, artefact.digest)


@pytest.mark.parametrize(("stage", "name"), NAMES)
def test_resolve_refuses_another_digest(stage, name):
    plan = plan_of()
    path = getattr(plan, stage)(name).path
    stale = f"{str(path)[:-10]}0123456789/manifest.json"
    with pytest.raises(ConfigError, match=f"the parameters now plan {re.escape(str(path))}") as caught:
        plan.resolve(stage, stale)
    assert "plan again" in caught.value.hint


def test_resolve_refuses_the_path_of_another_stage():
    plan = plan_of()
    with pytest.raises(ConfigError, match="made by `cmw inject`, not by `cmw train`"):
        plan.resolve("train", plan.inject("digits/sym-0.4").manifest)


@pytest.mark.parametrize(
    ("stage", "name", "message"),
    [
        ("download", "svhn", "'svhn' is not in the section datasets; there are: cifar10, digits"),
        ("inject", "digits", "'digits' is not of the form dataset/bias"),
        ("inject", "digits/sym-1.4", "the rate is 1.4"),
        ("inject", "digits/two-way:asym-0.4", "digits has no class map two-way; it has"),
        ("inject", "svhn/sym-0.4", "'svhn' is not in the section datasets"),
        ("metaset", "digits/sym-0.4/all", "write clean-K, lowest-K or random-min"),
        ("train", "digits/sym-0.4/erm/short/0", "is not a cell"),
        ("train", "digits/sym-0.4/erm/short/seed01", "is not a cell"),
        ("train", "digits/sym-0.4/erm/short/seed2147483648", "is not a cell"),
        (
            "train",
            "digits/sym-0.4/mae/short/seed0",
            "'mae' is not in the section methods; there are: cmw-net",
        ),
        ("train", "digits/sym-0.4/erm/tiny/seed0", "'tiny' is not in the section recipes"),
        ("train", "digits/sym-0.4/moved/short/seed0", "is made by `cmw transfer`, not by `cmw train`"),
        ("transfer", "digits/sym-0.4/erm/short/seed0", "is made by `cmw train`, not by `cmw transfer`"),
        ("export", "digits/sym-0.4/erm/short/seed0", "'erm' learns no weighting function to export"),
        ("table", "large", "'large' is not in the section tables; there are: small"),
    ],
)
def test_names_that_plan_nothing(stage, name, message):
    with pytest.raises(ConfigError, match=re.escape(message)) as caught:
        plan_of().resolve(stage, name)
    assert caught.value.exit_code == 2


def test_inputs_come_before_what_is_made_from_them():
    plan = plan_of()
    seen = set()
    for path, artefact in plan.artefacts().items():
        assert {str(source.path) for source in artefact.inputs.values()} <= seen
        seen.add(path)


def test_cells_are_the_whole_grid():
    plan = plan_of()
    names = [cell.name for cell in plan.cells("small")]
    assert len(names) == len(set(names)) == 2 * 3 * 2
    assert names == [
        f"digits/{bias}/{method}/short/seed{seed}"
        for bias in ("asym-0.4", "sym-0.4")
        for method in ("erm", "cmw-net", "moved")
        for seed in (0, 1)
    ]
