"""Read and check ``params.yaml``: every error at once, each with its place and what would be right."""

import difflib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from cmw_pipeline.config.bias_names import parse_bias
from cmw_pipeline.config.datasets import FACTS, class_map
from cmw_pipeline.config.schema import Params
from cmw_pipeline.errors import ConfigError

_MAX_BYTES = 1_000_000
_MAX_SHOWN = 40
Problem = tuple[str, str]
"""(place, what is wrong and what would be right)."""


class _StrictLoader(yaml.SafeLoader):
    """YAML without duplicate keys and without aliases (a few lines of them can expand to gigabytes)."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.MarkedYAMLError(problem="aliases are not allowed", problem_mark=mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: dict[Any, yaml.Mark] = {}
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                raise yaml.MarkedYAMLError(
                    problem=f"the key {key!r} is not text; quote it", problem_mark=key_node.start_mark
                )
            if key in seen:
                raise yaml.MarkedYAMLError(
                    problem=f"duplicate key {key!r}, first on line {seen[key].line + 1}",
                    problem_mark=key_node.start_mark,
                )
            seen[key] = key_node.start_mark
        return super().construct_mapping(node, deep)


def load(path: Path | str = "params.yaml") -> Params:
    """Read and validate a parameter file.

    Raises:
        ConfigError: it cannot be read, is not YAML, or does not fit the schema; lists all problems.
    """
    raw = read_yaml(Path(path))
    problems: list[Problem] = []
    params = None
    try:
        params = Params.model_validate(raw)
    except ValidationError as error:
        problems += [_describe(detail, raw) for detail in error.errors()]
    problems += _broken_references(raw)
    if problems or params is None:
        shown = "\n".join(f"  {place}: {text}" for place, text in problems[:_MAX_SHOWN])
        more = f"\n  ... and {len(problems) - _MAX_SHOWN} more" if len(problems) > _MAX_SHOWN else ""
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        raise ConfigError(f"{path}: {count}\n{shown}{more}")
    return params


def read_yaml(path: Path) -> Any:
    """Parse one YAML document strictly.

    Raises:
        ConfigError: missing, too large, not UTF-8, not YAML, with duplicate keys, aliases or tags.
    """
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise ConfigError(f"{path}: larger than {_MAX_BYTES:,} bytes; not a parameter file")
        return yaml.load(path.read_text(encoding="utf-8"), Loader=_StrictLoader)  # noqa: S506
    except FileNotFoundError:
        raise ConfigError(
            f"{path}: no such file", "run the command in the project folder or give --params FILE"
        ) from None
    except (OSError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}:{mark.column + 1}" if mark else str(path)
        raise ConfigError(f"{where}: {getattr(error, 'problem', None) or error}") from None


def _describe(detail: ErrorDetails, raw: Any) -> Problem:
    place = [part for part in detail["loc"] if _is_in(raw, detail["loc"], part)]
    where = ".".join(str(part) for part in place) or "(top level)"
    message = detail["msg"].removeprefix("Value error, ")
    given = detail["input"]
    if detail["type"] == "extra_forbidden":
        return where, f"unknown key{_nearest(str(detail['loc'][-1]), _siblings(detail))}"
    if detail["type"] == "missing":
        return where, f"the key {detail['loc'][-1]!r} is missing"
    if isinstance(given, str) and _is_number(given):
        return where, f"{message}; found the text {given!r}{_number_hint(given)}"
    if isinstance(given, (str, int, float, bool)) and repr(given) not in message:
        return where, f"{message}; found {given!r}"
    return where, message


def _is_in(raw: Any, loc: tuple[int | str, ...], part: int | str) -> bool:
    """Whether a part of pydantic's place is a key of the file (and not the tag of a union)."""
    node = raw
    for step in loc:
        inside = (isinstance(node, dict) and step in node) or (
            isinstance(node, list) and isinstance(step, int) and step < len(node)
        )
        if step == part:
            return inside
        if inside:
            node = node[step]
    return False


def _siblings(detail: ErrorDetails) -> list[str]:
    """The keys that the model around an unknown key allows."""
    schema: Any = Params.model_json_schema()
    defs = schema["$defs"]
    key = str(detail["loc"][-1])
    names = {name for model in defs.values() for name in model.get("properties", {})}
    return difflib.get_close_matches(key, sorted(names | set(schema["properties"])), n=1)


def _nearest(wrong: str, known: list[str]) -> str:
    match = difflib.get_close_matches(wrong, known, n=1)
    return f"; did you mean {match[0]!r}?" if match else ""


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _number_hint(text: str) -> str:
    if "e" in text.lower() and "." not in text:
        mantissa, exponent = text.lower().split("e")
        return f" (YAML reads this as text; write {mantissa}.0e{exponent})"
    return " (write it without quotes)"


def _broken_references(raw: Any) -> list[Problem]:
    """Names that point nowhere. Works on the raw document, so that schema errors do not hide them."""
    if not isinstance(raw, dict):
        return []
    problems = [
        (f"build.{row}", f"no table {name!r}{_nearest(str(name), list(_section(raw, 'tables')))}")
        for row, name in enumerate(raw.get("build") or [])
        if name not in _section(raw, "tables")
    ]
    for table, body in _section(raw, "tables").items():
        body = body if isinstance(body, dict) else {}
        for row, block in enumerate(body.get("grid") or []):
            if isinstance(block, dict):
                problems += _broken_block(raw, block, f"tables.{table}.grid.{row}")
        for row, run in enumerate(body.get("weighting_figures") or []):
            problems += _broken_run(raw, run, f"tables.{table}.weighting_figures.{row}")
    for name, method in _section(raw, "methods").items():
        if isinstance(method, dict) and method.get("kind") == "transfer":
            problems += _broken_run(raw, method.get("weighting"), f"methods.{name}.weighting")
    return problems


def _section(raw: dict[str, Any], name: str) -> dict[str, Any]:
    section = raw.get(name)
    return section if isinstance(section, dict) else {}


def _missing(raw: dict[str, Any], section: str, name: Any, place: str) -> Iterator[Problem]:
    known = _section(raw, section)
    if isinstance(name, str) and name not in known:
        listed = ", ".join(sorted(known)) or "none"
        yield place, f"{name!r} is not in the section {section}; there are: {listed}"


def _broken_block(raw: dict[str, Any], block: dict[str, Any], place: str) -> list[Problem]:
    dataset = block.get("dataset")
    problems = [
        *_missing(raw, "datasets", dataset, f"{place}.dataset"),
        *_missing(raw, "biases", block.get("biases"), f"{place}.biases"),
        *_missing(raw, "recipes", block.get("recipe"), f"{place}.recipe"),
    ]
    for row, method in enumerate(block.get("methods") or []):
        problems += _missing(raw, "methods", method, f"{place}.methods.{row}")
    listed = _section(raw, "biases").get(str(block.get("biases")), [])
    for bias in listed if isinstance(listed, list) else []:
        problems += _impossible_bias(raw, dataset, bias, f"biases.{block.get('biases')}")
    return problems


def _impossible_bias(raw: dict[str, Any], dataset: Any, bias: Any, place: str) -> Iterator[Problem]:
    """An asymmetric step needs a class map of that name on the dataset."""
    source = (_section(raw, "datasets").get(str(dataset)) or {}).get("source")
    try:
        steps = parse_bias(bias)
    except (ValueError, TypeError, AttributeError):
        return
    for step in steps:
        if step.kind == "asym" and source in FACTS:
            try:
                class_map(source, step.variant)
            except KeyError as error:
                yield place, f"{bias!r} cannot be used on {dataset}: {error.args[0]}"


def _broken_run(raw: dict[str, Any], run: Any, place: str) -> list[Problem]:
    if not isinstance(run, str) or run.count("/") != 4:
        return []
    dataset, bias, method, recipe, _ = run.split("/")
    problems = [
        *_missing(raw, "datasets", dataset, place),
        *_missing(raw, "methods", method, place),
        *_missing(raw, "recipes", recipe, place),
    ]
    kind = (_section(raw, "methods").get(method) or {}).get("kind")
    if kind in ("erm", "transfer"):
        problems.append((place, f"{method!r} learns no weighting function; name a meta-learned method"))
    try:
        parse_bias(bias)
    except ValueError as error:
        problems.append((place, str(error)))
    else:
        problems += _impossible_bias(raw, dataset, bias, place)
    return problems
