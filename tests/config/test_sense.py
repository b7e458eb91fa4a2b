"""Parameters that every key admits and that make no sense are refused before anything runs."""

import json
from pathlib import Path

import pandas as pd
import pytest

from cmw_pipeline.config import Plan, load
from cmw_pipeline.errors import ConfigError
from cmw_pipeline.tables import published as published_module
from cmw_pipeline.tables.published import is_published_recipe, published
from tests.config.test_published_settings import ROWS as SETTINGS

PARAMS = Path(__file__).parents[2] / "params.yaml"
RECIPE = {
    "network": {"name": "small-cnn", "width": 4},
    "optimizer": {"lr": 0.05},
    "epochs": 3,
    "batch_size": 100,
}
ERM = {"kind": "erm", "label": "ERM"}


def loaded(tmp_path, method=None, schedule=None, seeds=(0,), methods=("m",), blocks=1, **changes):
    """A table of one cell; what differs from it is named."""
    recipe = RECIPE | ({"schedule": schedule} if schedule else {})
    block = {"dataset": "digits", "biases": "b", "methods": list(methods), "recipe": "r"}
    raw = {
        "build": ["t"],
        "seeds": list(seeds),
        "bias_seed": 1,
        "datasets": {"digits": {"source": "digits"}},
        "biases": {"b": ["lt-20"]},
        "methods": {"m": method or ERM},
        "recipes": {"r": recipe},
        "tables": {"t": {"title": "T", "grid": [block] * blocks}},
    }
    (tmp_path / "params.yaml").write_text(json.dumps(raw | changes))
    return load(tmp_path / "params.yaml")


def learned(**options):
    weighting = {"kind": "mw-net", "meta_set": "clean-2", "weight_net": {"lr": 0.01}} | options
    return {"kind": "erm", "label": "MW-Net", "weighting": weighting}


LATE = {
    "weighting.start_epoch": learned(),
    "start_epoch": {"kind": "elr", "label": "ELR"} | {"kind": "dividemix", "label": "DivideMix"},
    "prune_from": {"kind": "gce", "label": "GCE", "threshold": 0.5},
    "correct_after": {"kind": "lrt", "label": "LRT", "start_epoch": 0},
}


def with_option(method, option, value):
    head, _, rest = option.partition(".")
    return method | {head: method[head] | {rest: value} if rest else value}


@pytest.mark.parametrize("option", LATE)
@pytest.mark.parametrize("epoch", [3, 50])
def test_an_epoch_that_never_comes_is_refused_with_its_place(tmp_path, option, epoch):
    method = with_option(LATE[option], option, epoch)
    with pytest.raises(ConfigError) as refused:
        loaded(tmp_path, method)
    assert f"tables.t.grid.0.methods.0: {option} of 'm' is {epoch}" in str(refused.value)
    assert "ends after epoch 2" in str(refused.value)
    assert "`never`" in str(refused.value)


@pytest.mark.parametrize("option", LATE)
@pytest.mark.parametrize("epoch", [2, "never"])
def test_the_last_epoch_and_never_are_taken_as_they_are_meant(tmp_path, option, epoch):
    plan = Plan(loaded(tmp_path, with_option(LATE[option], option, epoch)))
    assert len(plan.cells("t")) == 1


def test_a_default_that_never_comes_is_refused_too(tmp_path):
    with pytest.raises(ConfigError, match="start_epoch of 'm' is 10"):
        loaded(tmp_path, {"kind": "dividemix", "label": "DivideMix"})


def test_an_option_of_one_cell_alone_is_seen(tmp_path):
    method = learned() | {"where": {"digits/lt-*": {"weighting": {"start_epoch": 7}}}}
    with pytest.raises(ConfigError, match=r"weighting\.start_epoch of 'm' is 7"):
        loaded(tmp_path, method)


@pytest.mark.parametrize(
    ("schedule", "place"),
    [
        ({"name": "steps", "milestones": [160, 180]}, "schedule.milestones: reaches epoch 160"),
        ({"name": "steps", "milestones": [1, 3]}, "schedule.milestones: reaches epoch 3"),
        ({"name": "restarts", "start": 3}, "schedule.start: reaches epoch 3"),
        ({"name": "cosine", "warmup_epochs": 4}, "schedule.warmup_epochs: reaches epoch 3"),
    ],
)
def test_a_schedule_beyond_the_end_is_refused(tmp_path, schedule, place):
    with pytest.raises(ConfigError, match=place):
        loaded(tmp_path, schedule=schedule)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"seeds": [0, 0]}, "seeds: has 0 more than once"),
        ({"methods": ["m", "m"]}, "methods: has 'm' more than once"),
        ({"blocks": 2}, "tables.t.grid: asks for digits/lt-20/m/r more than once"),
        ({"build": ["t", "t"]}, "build: has 't' more than once"),
        ({"biases": {"b": ["none", "none"]}}, "biases.b: has 'none' more than once"),
        ({"schedule": {"name": "steps", "milestones": [1, 1]}}, "milestones: has 1 more than once"),
    ],
)
def test_what_is_asked_for_twice_is_refused(tmp_path, changes, words):
    with pytest.raises(ConfigError) as refused:
        loaded(tmp_path, **changes)
    assert words in str(refused.value)


RECIPES = pd.read_csv(Path(published_module.__file__).with_name("published_recipes.csv"))


def test_every_published_recipe_says_which_rows_it_is_of_and_where_that_is_written():
    for row in RECIPES.itertuples():
        assert row.source.count("'s ") >= 1, "whose code"
        assert set(row.rows.split("; ")) <= set(published(row.table)["method"])
    assert not RECIPES.duplicated(["table", "network", "epochs"]).any()


def test_the_published_recipes_are_those_of_the_rows_read_from_the_published_code():
    """`test_published_settings.py` has them one by one."""
    known = [
        (recipe.table, row, recipe) for recipe in RECIPES.itertuples() for row in recipe.rows.split("; ")
    ]
    for place, (_, settings) in SETTINGS.items():
        recipes = [recipe for *row, recipe in known if tuple(row) == place]
        assert {recipe.epochs for recipe in recipes} == {settings["epochs"]}
        assert {recipe.network for recipe in recipes} == {settings.get("network.name", "vgg19-bn")}


def test_our_own_tables_beside_published_values_are_trained_as_published():
    params = load(PARAMS)
    beside = [(t.published, block.recipe) for t in params.tables.values() if t.published for block in t.grid]
    assert beside
    for table, recipe in beside:
        assert len(published(table))
        assert is_published_recipe(table, params.recipes[recipe].model_dump()), (table, recipe)


@pytest.mark.parametrize(
    "changes", [{"epochs": 2}, {"smoke": True}, {"network": {"name": "small-cnn", "width": 8}}]
)
def test_another_network_or_length_is_not_the_published_one(changes):
    ours = load(PARAMS).recipes["cifar-noise"].model_dump()
    assert is_published_recipe("table2", ours)
    assert not is_published_recipe("table2", ours | changes)


@pytest.mark.parametrize(
    "names",
    [
        ("t", "t-weighting-0"),
        ("t", "t-weighting-12"),
        ("t", "t-beside-published"),
        ("a/t", "a/t-weighting-0"),
        ("t", "t/more"),
        ("numbers/t",),
        ("partial/t",),
        ("train/digits",),
        ("download/digits",),
        ("downloads/x",),
        ("checkpoints/x",),
        ("logs/x",),
    ],
)
def test_a_table_that_would_write_where_other_files_lie_is_refused(tmp_path, names):
    block = {"dataset": "digits", "biases": "b", "methods": ["m"], "recipe": "r"}
    tables = {name: {"title": "T", "grid": [block]} for name in names}
    with pytest.raises(ConfigError, match=rf"tables\.{names[-1]}: "):
        loaded(tmp_path, tables=tables, build=[])


def test_names_that_only_look_alike_are_taken(tmp_path):
    block = {"dataset": "digits", "biases": "b", "methods": ["m"], "recipe": "r"}
    names = ("t", "u-weighting-0", "t-weighting-all", "more/t", "train", "numbers")
    loaded(tmp_path, tables={name: {"title": "T", "grid": [block]} for name in names}, build=[])
