"""What the parameters are made of: the types of their fields, and the strict model."""

import re
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from cmw_pipeline.config.bias_names import parse_bias
from cmw_pipeline.config.meta_names import parse_meta

T = TypeVar("T")


def _bias_name(name: str) -> str:
    parse_bias(name)
    return name


def _meta_name(name: str) -> str:
    parse_meta(name)
    return name


def _shown(text: str) -> str:
    hidden = _HIDDEN.search(text)
    if hidden or not text.strip():
        what = f"has {hidden[0]!a} in it" if hidden else "is empty"
        raise ValueError(f"{what}; write a text of letters that are shown, in their order")
    return text


_HIDDEN = re.compile("[\\x00-\\x08\\x0b-\\x1f\\x7f-\\x9f\\u202a-\\u202e\\u2066-\\u2069\\ud800-\\udfff]")
"""Control characters, and those that turn the order of the letters behind them."""
Text = Annotated[str, AfterValidator(_shown)]
"""Words that tables show, in any script."""
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]*$", max_length=60)]
"""A name that goes into paths and commands: lower-case letters, digits, dots and dashes."""
TableName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]*(/[a-z0-9][a-z0-9.-]*)?$", max_length=60)]
"""A name, or a folder and a name: ``results/<name>.md`` is what it makes."""
BiasName = Annotated[str, AfterValidator(_bias_name)]
MetaName = Annotated[str, AfterValidator(_meta_name)]
Seed = Annotated[int, Field(ge=0, lt=2**31)]
Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]


def _distinct(values: list[T]) -> list[T]:
    twice = next((value for place, value in enumerate(values) if value in values[:place]), None)
    if twice is not None:
        raise ValueError(f"has {twice!r} more than once")
    return values


Distinct = Annotated[list[T], AfterValidator(_distinct)]
"""A list in which nothing is there twice."""
Some = Annotated[list[T], Field(min_length=1), AfterValidator(_distinct)]
"""The same with one thing at least."""
NEVER = 2**31 - 1
"""The epoch that ``never`` stands for."""
Epoch = Annotated[
    int,
    Field(ge=0),
    BeforeValidator(lambda value: NEVER if value == "never" else value),
    WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 0}, {"const": "never"}]}),
]
"""Counted from 0; ``never`` for one that is not meant to come."""
LaterEpoch = Annotated[
    int,
    Field(ge=1),
    BeforeValidator(lambda value: NEVER if value == "never" else value),
    WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 1}, {"const": "never"}]}),
]
"""The same, not the first."""
RunName = Annotated[str, Field(pattern=r"^[^/]+/[^/]+/[^/]+/[^/]+/seed[0-9]+$")]
"""dataset/bias/method/recipe/seedN."""


class Model(BaseModel):
    """Strict base: no coercion, no unknown keys, no NaN, immutable."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


def over(parent: Any, child: Any) -> Any:
    """The child's values over the parent's, mapping by mapping; a mapping of another ``name`` starts anew.

    >>> over({"kind": "erm", "weighting": {"meta_every": 10, "groups": 3}}, {"weighting": {"meta_every": 1}})
    {'kind': 'erm', 'weighting': {'meta_every': 1, 'groups': 3}}
    """
    if not isinstance(parent, dict) or not isinstance(child, dict):
        return child
    if "name" in child and child["name"] != parent.get("name"):
        return child
    return parent | {key: over(parent.get(key), value) for key, value in child.items()}
