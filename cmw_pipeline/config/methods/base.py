"""What the options of all methods share."""

from fnmatch import fnmatchcase
from typing import Annotated, Any, ClassVar, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from cmw_pipeline.config.bias_names import parse_bias
from cmw_pipeline.config.meta_names import parse_meta


def _bias_name(name: str) -> str:
    parse_bias(name)
    return name


def _meta_name(name: str) -> str:
    parse_meta(name)
    return name


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
Epoch = Annotated[int, Field(ge=0)]
RunName = Annotated[str, Field(pattern=r"^[^/]+/[^/]+/[^/]+/[^/]+/seed[0-9]+$")]
"""dataset/bias/method/recipe/seedN."""


class Model(BaseModel):
    """Strict base: no coercion, no unknown keys, no NaN, immutable."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class First(Model):
    """A run that a method starts from: same dataset and seed."""

    method: Name
    recipe: Name | None = Field(None, description="null: the recipe of the run itself")
    bias: BiasName | None = Field(None, description="null: the bias of the run itself")


class MethodBase(Model):
    """What every method has."""

    labels_from_first: ClassVar[bool] = False
    """Whether the given labels are replaced by predictions of the run named ``first``."""

    label: str = Field(min_length=1, max_length=60, description="its row in the tables")
    start_epoch: Epoch = Field(0, description="plain cross-entropy before this epoch")
    where: dict[str, dict[str, Any]] = Field(
        default={},
        description="options that differ in some cells: pattern of dataset/bias -> options; later ones win",
    )

    @model_validator(mode="after")
    def _overrides_fit(self) -> Self:
        for pattern, changes in self.where.items():
            if unknown := sorted(set(changes) - (set(type(self).model_fields) - {"kind", "label", "where"})):
                raise ValueError(f"where {pattern!r}: unknown option {unknown[0]!r}")
            type(self).model_validate(self.model_dump(exclude={"where"}) | changes)
        return self

    def at(self, dataset: str, bias: str) -> Self:
        """The options as they are in the cells of a dataset and a bias."""
        options = self.model_dump(exclude={"where"})
        for pattern, changes in self.where.items():
            if fnmatchcase(f"{dataset}/{bias}", pattern):
                options |= changes
        return type(self).model_validate(options)
