"""Read and check ``params.yaml``: every error at once, each with its place and what would be right."""

import datetime
import functools
import math
import re
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from cmw_pipeline.config.bias_names import parse_bias
from cmw_pipeline.config.cell import Cell
from cmw_pipeline.config.datasets import FACTS
from cmw_pipeline.config.document import Document, Problem, listing, read_document, short
from cmw_pipeline.config.methods import KINDS
from cmw_pipeline.config.nearest import nearest
from cmw_pipeline.config.schema import Params
from cmw_pipeline.config.sense import senseless
from cmw_pipeline.config.weightings import NetWeighting, WeightingBase
from cmw_pipeline.errors import ConfigError

_SWITCHES = dict.fromkeys(("yes", "on", "true"), "true") | dict.fromkeys(("no", "off", "false"), "false")
_SCALARS = {bool: "switch", int: "number", float: "number", datetime.date: "date", datetime.datetime: "date"}


def load(path: Path | str = "params.yaml") -> Params:
    """Read and validate a parameter file, with the files that it includes.

    Raises:
        ConfigError: it cannot be read, is not YAML, or does not fit the schema; lists all problems.
    """
    return validated(read_document(path), Path(path))


def validated(document: Document, path: Path) -> Params:
    """The parameters that a document holds.

    Raises:
        ConfigError: it does not fit the schema, or names something that is not there; lists all problems.
    """
    raw = document.values
    problems = dict.fromkeys(_broken_references(raw))
    places = {place for place, _ in problems}
    params = None
    try:
        params = Params.model_validate(raw)
    except ValidationError as error:
        described = [_describe(detail, raw) for detail in error.errors()]
        problems = dict.fromkeys(row for row in described if row[0] not in places) | problems
    if params is not None and not problems:
        problems = dict.fromkeys(senseless(params))
    own = [row for row in problems if (document.inherited(row[0]), row[1]) not in problems]
    if own or params is None:
        raise ConfigError(listing(path, document, own))
    return params


def _describe(detail: ErrorDetails, raw: Any) -> Problem:
    where = _place(detail["loc"], raw)
    message = detail["msg"].removeprefix("Value error, ")
    if detail["type"] == "extra_forbidden":
        return where, f"unknown key{nearest(str(detail['loc'][-1]), _allowed_beside(detail['loc']))}"
    if detail["type"] == "union_tag_invalid":
        return where, _unknown_kind(detail)
    if detail["type"] == "missing":
        return where, f"the key {detail['loc'][-1]!r} is missing"
    return where, message + _found(detail["type"], detail["input"], message)


def _unknown_kind(detail: ErrorDetails) -> str:
    """A kind that is not there; a weighting in the place of a method is told where it goes."""
    kind, known = str(detail["ctx"]["tag"]), re.findall("'(.*?)'", detail["ctx"]["expected_tags"])
    if kind in WeightingBase.kinds and kind not in known:
        return f"{kind} is a weighting: write `kind: erm, weighting: {{kind: {kind}, ...}}`"
    return f"there is no kind {short(kind)}{nearest(kind, known)}"


def _found(expected: str, given: Any, message: str) -> str:
    """What stands there, and how to write what was meant."""
    if isinstance(given, str) and _is_number(given):
        return f"; found the text {short(given)} (write it without quotes)"
    if expected == "bool_type" and (meant := _SWITCHES.get(str(given).lower())):
        return f"; found the text {given!r}; write {meant}"
    if expected == "string_type" and (kind := _SCALARS.get(type(given))):
        return f"; found {str(given).lower()}, which YAML reads as a {kind}; quote it"
    if isinstance(given, str | int | float | bool) and repr(given) not in message:
        return f"; found {short(given)}"
    return ""


def _place(loc: tuple[int | str, ...], raw: Any) -> str:
    """Pydantic's place without the tags of unions, which are no keys of the file."""
    node, place = raw, []
    for step in loc:
        node_keys = node if isinstance(node, dict) else range(len(_list(node)))
        if step in node_keys:
            node = node[step]
            place.append(str(step))
    return ".".join(place) or "(top level)"


def _allowed_beside(loc: tuple[int | str, ...]) -> list[str]:
    """The keys of the model in which an unknown key was found."""
    schema = _schema()
    node: Any = schema
    for step in loc[:-1]:
        if "discriminator" in node:
            node = {"$ref": node["discriminator"]["mapping"][step]}
        elif "patternProperties" in node:
            (node,) = node["patternProperties"].values()
        else:
            node = node["items"] if isinstance(step, int) else node["properties"][step]
        if "$ref" in node:
            node = schema["$defs"][node["$ref"].rpartition("/")[2]]
    return list(node["properties"])


@functools.cache
def _schema() -> dict[str, Any]:
    return Params.model_json_schema()


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _broken_references(raw: Any) -> list[Problem]:
    """Names that point nowhere. Works on the raw document, so that schema errors do not hide them."""
    if not isinstance(raw, dict):
        return []
    problems = _broken_starts(raw) + _broken_audits(raw)
    for row, name in enumerate(_list(raw.get("build"))):
        problems += _missing(raw, "tables", name, f"build.{row}")
    for name, table in _dict(raw.get("tables")).items():
        for row, block in enumerate(_list(_dict(table).get("grid"))):
            problems += _broken_block(raw, _dict(block), f"tables.{name}.grid.{row}")
        for row, run in enumerate(_list(_dict(table).get("weighting_figures"))):
            problems += _broken_run(raw, run, f"tables.{name}.weighting_figures.{row}")
        beside = _dict(table).get("beside_published_weighting")
        problems += _broken_run(raw, beside, f"tables.{name}.beside_published_weighting")
    for name, method in _dict(raw.get("methods")).items():
        problems += _broken_patterns(raw, _dict(method), f"methods.{name}.where")
        weighting = _dict(_dict(method).get("weighting"))
        if weighting.get("kind") == "frozen":
            problems += _broken_run(raw, weighting.get("run"), f"methods.{name}.weighting.run")
    return problems


def _broken_patterns(raw: dict[str, Any], method: dict[str, Any], place: str) -> list[Problem]:
    """Patterns of cells that can be of no dataset."""
    problems: list[Problem] = []
    datasets = list(_dict(raw.get("datasets")))
    for pattern in _dict(method.get("where")):
        dataset, slash, _ = str(pattern).partition("/")
        if not slash and "*" not in dataset:
            problems.append((f"{place}.{pattern}", f"no pattern of dataset/bias; write {pattern}/*"))
        elif slash and not any(fnmatchcase(known, dataset) for known in datasets):
            problems.append((f"{place}.{pattern}", f"fits no dataset{nearest(dataset, datasets)}"))
    return problems


def _broken_audits(raw: dict[str, Any]) -> list[Problem]:
    problems: list[Problem] = []
    for name, audit in _dict(raw.get("audits")).items():
        dataset, _, bias = str(_dict(audit).get("data", "")).partition("/")
        problems += _missing(raw, "datasets", dataset, f"audits.{name}.data")
        problems += _impossible_bias(raw, dataset, bias or "none", f"audits.{name}.data")
    return problems


def _broken_starts(raw: dict[str, Any]) -> list[Problem]:
    """The runs that datasets, methods and recipes start from: a teacher, a first run."""
    problems: list[Problem] = []
    for section, key in (("datasets", "teacher"), ("methods", "first"), ("methods", "labels_from")):
        for name, entry in _dict(raw.get(section)).items():
            start, place = _dict(_dict(entry).get(key)), f"{section}.{name}.{key}"
            problems += _missing(raw, "methods", start.get("method"), f"{place}.method")
            problems += _missing(raw, "recipes", start.get("recipe"), f"{place}.recipe")
    for name, recipe in _dict(raw.get("recipes")).items():
        problems += _missing(raw, "recipes", _dict(recipe).get("start_from"), f"recipes.{name}.start_from")
    return problems


def _dict(value: Any) -> dict[str, Any]:
    """A mapping, or nothing where the document has something else; the schema reports that."""
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _missing(raw: dict[str, Any], section: str, name: Any, place: str) -> Iterator[Problem]:
    known = _dict(raw.get(section))
    if isinstance(name, str) and name not in known:
        yield place, f"{short(name)} is not in the section {section}{nearest(name, list(known))}"


def _broken_block(raw: dict[str, Any], block: dict[str, Any], place: str) -> list[Problem]:
    dataset, biases = block.get("dataset"), block.get("biases")
    problems = [
        *_missing(raw, "datasets", dataset, f"{place}.dataset"),
        *_missing(raw, "biases", biases, f"{place}.biases"),
        *_missing(raw, "recipes", block.get("recipe"), f"{place}.recipe"),
    ]
    recipe = _dict(_dict(raw.get("recipes")).get(str(block.get("recipe"))))
    problems += _wrong_picture(raw, dataset, recipe, f"{place}.recipe")
    start = _dict(_dict(raw.get("recipes")).get(str(recipe.get("start_from"))))
    for row, method in enumerate(_list(block.get("methods"))):
        problems += _missing(raw, "methods", method, f"{place}.methods.{row}")
        options = KINDS.get(str(_dict(_dict(raw.get("methods")).get(str(method))).get("kind")))
        asks = options is not None and options.needs_teacher
        if asks and any(part and part.get("ema") is None for part in (recipe, start)):
            text = f"{method!r} needs a moving average of the network; give its recipes an ema (0.997)"
            problems.append((f"{place}.methods.{row}", text))
    for row, bias in enumerate(_list(_dict(raw.get("biases")).get(str(biases)))):
        problems += _impossible_bias(raw, dataset, bias, f"biases.{biases}.{row}")
    return problems


def _wrong_picture(
    raw: dict[str, Any], dataset: Any, recipe: dict[str, Any], place: str
) -> Iterator[Problem]:
    """Image files need a recipe that says how they become pictures, and only they do."""
    source = _dict(_dict(raw.get("datasets")).get(str(dataset))).get("source")
    if not isinstance(source, str) or not recipe:
        return
    try:
        files = FACTS[source].files is not None
    except KeyError:
        return  # the schema reports it
    if files and recipe.get("picture") is None:
        yield place, f"{dataset!r} is a folder of image files; give the recipe a picture ({{side: 224}})"
    if not files and recipe.get("picture") is not None:
        yield place, f"{dataset!r} has no image files; leave picture out of the recipe"


def _impossible_bias(raw: dict[str, Any], dataset: Any, bias: Any, place: str) -> Iterator[Problem]:
    """An asymmetric step needs a class map of that name on the dataset."""
    source = _dict(_dict(raw.get("datasets")).get(str(dataset))).get("source")
    if not isinstance(bias, str) or not isinstance(source, str) or source not in FACTS:
        return
    try:
        FACTS[source].check(parse_bias(bias))
    except ValueError:
        return  # the schema reports it
    except KeyError as error:
        yield place, f"{bias!r} cannot be used on {dataset}: {error.args[0]}"


def _broken_run(raw: dict[str, Any], run: Any, place: str) -> list[Problem]:
    if not isinstance(run, str):
        return []
    try:
        cell = Cell.parse(run)
        parse_bias(cell.bias)
    except (ConfigError, ValueError) as error:
        return [(place, " - ".join(str(error).splitlines()))]
    problems = [
        *_missing(raw, "datasets", cell.dataset, place),
        *_missing(raw, "methods", cell.method, place),
        *_missing(raw, "recipes", cell.recipe, place),
        *_impossible_bias(raw, cell.dataset, cell.bias, place),
    ]
    method = _dict(raw.get("methods")).get(cell.method)
    kind = _dict(_dict(method).get("weighting")).get("kind")
    options = WeightingBase.kinds.get(str(kind or "uniform"))
    if method is not None and options is not None and not issubclass(options, NetWeighting):
        text = f"{cell.method!r} learns no weighting function; name a method under mw-net or cmw-net"
        problems.append((place, text))
    return problems
