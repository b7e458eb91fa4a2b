"""What can be asked of an audit of labels."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from cmw_pipeline.config.bias_names import parse_bias
from cmw_pipeline.config.fields import Model, Seed


def checked_folds(folds: int) -> int:
    """A number of parts that can be held out in turn, or 0."""
    if folds != 0 and folds < 2:
        raise ValueError(f"{folds} folds; should be 0, or at least 2")
    return folds


def _audited(data: str) -> str:
    _, slash, bias = data.partition("/")
    parse_bias(bias if slash else "none")
    return data


class Audit(Model):
    """An audit of the labels of a dataset: ``results/audit/NAME.html`` and what is beside it."""

    data: Annotated[str, AfterValidator(_audited)] = Field(
        description="a dataset, with the labels that it has, or dataset/bias"
    )
    method: Literal["cmw-net-sl", "cmw-net", "elr", "erm"] = Field("cmw-net-sl")
    folds: Annotated[int, AfterValidator(checked_folds)] = Field(
        5, description="parts that are held out in turn, for estimates; 0: the ranking alone"
    )
    backbone: Literal["auto", "none"] = Field(
        "auto",
        description="of pictures: auto is what the extra `audit` brings, none a small network of its own",
    )
    seed: Seed = Field(0)
    review: Annotated[str, Field(min_length=1)] | None = Field(
        None, description="reviewed.csv of its report, a path from the project's folder: marks to honour"
    )
