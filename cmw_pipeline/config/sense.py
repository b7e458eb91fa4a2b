"""What every key admits and yet makes no sense: epochs that never come, cells and files asked for twice."""

import re
from collections import Counter
from collections.abc import Collection, Iterator

from cmw_pipeline.config.artefact import STAGE_VERSIONS
from cmw_pipeline.config.fields import NEVER
from cmw_pipeline.config.methods import Method
from cmw_pipeline.config.schema import Block, Params, Recipe

_FOLDERS = (*STAGE_VERSIONS, "numbers", "partial", "downloads", "checkpoints", "logs")
"""Of ``results/``, with files of others than tables."""
_FIGURE = re.compile(r"(?P<table>.+)-(?:weighting-[0-9]+|beside-published)")
Problem = tuple[str, str]
"""Its place in the file, and what is wrong there."""


def senseless(params: Params) -> Iterator[Problem]:
    """The problems of parameters that fit the schema."""
    yield from _owned_twice(params.tables)
    for name, recipe in params.recipes.items():
        yield from _late_schedule(f"recipes.{name}", recipe)
    for name, table in params.tables.items():
        asked: Counter[tuple[str, str, str, str]] = Counter()
        for row, block in enumerate(table.grid):
            place = f"tables.{name}.grid.{row}"
            yield from _late_methods(params, block, place)
            asked.update(_cells(params, block))
        twice = ["/".join(cell) for cell, times in asked.items() if times > 1]
        if twice:
            yield f"tables.{name}.grid", f"asks for {twice[0]} more than once"


def _owned_twice(tables: Collection[str]) -> Iterator[Problem]:
    """Tables whose files lie where those of another table, of a stage or of DVC do."""
    for name in tables:
        folder, beside = name.partition("/")[0] if "/" in name else "", _FIGURE.fullmatch(name)
        if folder in _FOLDERS:
            yield f"tables.{name}", f"results/{folder}/ holds other things; name another folder, or none"
        if folder in tables:
            yield f"tables.{name}", f"{folder!r} is a table itself; name another folder"
        if beside and beside["table"] in tables:
            text = f"results/{name}.png is a figure of the table {beside['table']!r}; give it another name"
            yield f"tables.{name}", text


def _cells(params: Params, block: Block) -> Iterator[tuple[str, str, str, str]]:
    for bias in params.biases[block.biases]:
        for method in block.methods:
            yield block.dataset, bias, method, block.recipe


def _late_methods(params: Params, block: Block, place: str) -> Iterator[Problem]:
    recipe = params.recipes[block.recipe]
    for row, name in enumerate(block.methods):
        late: dict[str, int] = {}
        for bias in params.biases[block.biases]:
            late |= _late(params.methods[name].at(block.dataset, bias), recipe)
        for option, epoch in late.items():
            yield f"{place}.methods.{row}", _too_late(f"{option} of {name!r}", epoch, block.recipe, recipe)


def _late(method: Method, recipe: Recipe) -> dict[str, int]:
    return {option: epoch for option, epoch in method.begins().items() if recipe.epochs <= epoch < NEVER}


def _too_late(what: str, epoch: int, name: str, recipe: Recipe) -> str:
    return (
        f"{what} is {epoch}, and recipe {name!r} ends after epoch {recipe.epochs - 1}, the first being 0; "
        "write an earlier epoch, or `never` if that is meant"
    )


def _late_schedule(place: str, recipe: Recipe) -> Iterator[Problem]:
    schedule, last = recipe.schedule, recipe.epochs - 1
    named = {"warmup_epochs": [schedule.warmup_epochs - 1]} if schedule.warmup_epochs else {}
    if schedule.name == "steps":
        named["milestones"] = list(schedule.milestones)
    if schedule.name == "restarts":
        named["start"] = [schedule.start]
    for option, epochs in named.items():
        if late := [epoch for epoch in epochs if epoch > last]:
            text = f"reaches epoch {late[0]}, and the recipe ends after epoch {last}, the first being 0"
            yield f"{place}.schedule.{option}", text
