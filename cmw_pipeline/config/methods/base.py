"""What the options of all methods share, and what is declared of every method."""

from fnmatch import fnmatchcase
from typing import Any, ClassVar, Literal, Self, get_args

from pydantic import Field, model_validator

from cmw_pipeline.config.cell import Cell
from cmw_pipeline.config.fields import BiasName, Epoch, Model, Name, Text, over
from cmw_pipeline.config.weightings import Uniform, Weighting


class First(Model):
    """A run that a method starts from: same dataset and seed."""

    method: Name
    recipe: Name | None = Field(None, description="null: the recipe of the run itself")
    bias: BiasName | None = Field(None, description="null: the bias of the run itself")

    def of(self, cell: Cell) -> Cell:
        """The run that a cell starts from."""
        return Cell(cell.dataset, self.bias or cell.bias, self.method, self.recipe or cell.recipe, cell.seed)


def _epochs(options: Model) -> dict[str, int]:
    return {
        name: value
        for name, value in options
        if name.endswith(("_epoch", "_from", "_after", "_until")) and isinstance(value, int)
    }


class MethodBase(Model):
    """What every method has: what is minimised, and the weighting under it."""

    kinds: ClassVar[dict[str, type["MethodBase"]]] = {}
    """The options of each method by its kind."""

    implemented_by: ClassVar[str]
    """``module:Class`` below ``cmw_pipeline.methods``."""
    head: ClassVar[
        Literal["linear", "cosine", "experts", "probe", "project", "pair", "abstain", "select"]
    ] = "linear"
    """The classifier's output layer."""
    towers: ClassVar[int] = 1
    """Networks side by side; two of them give logits (B, 2, K) in training mode."""
    needs_teacher: ClassVar[bool] = False
    """Whether it asks the moving average of the network, which a recipe has by its ``ema``."""
    starts_from_first: ClassVar[bool] = False
    """Whether the network's trunk starts from the weights of the run named ``first``."""
    steady: ClassVar[bool] = False
    """Whether an active epoch's iteration is the same tensor program in all of them: buffers change in place,
    and nothing that the host decides changes but when things start and the teacher's decay."""
    divisible: ClassVar[bool] = True
    """Whether several processes can train it, each on its share of a batch."""
    steps_as_optimizer: ClassVar[bool] = False
    """Whether its virtual step is the optimiser's, with momentum and weight decay, not a plain one."""
    why_no_weighting: ClassVar[str | None] = None
    """Why its losses cannot count differently; None: they can."""
    splits_weights: ClassVar[bool] = False
    """Whether something else gets what a loss's weight lacks to 1."""

    kind: str
    label: Text | None = Field(
        None, min_length=1, max_length=60, description="its row in the tables; null: its name"
    )
    start_epoch: Epoch = Field(0, description="plain cross-entropy before this epoch")
    weighting: Weighting = Field(Uniform(kind="uniform"), description="how much each sample's loss counts")
    labels_from: First | None = Field(
        None, description="a run whose predictions, among the candidates, become the given labels; null: none"
    )
    where: dict[str, dict[str, Any]] = Field(
        default={},
        description="options that differ in some cells: pattern of dataset/bias -> options; later ones win",
    )

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        (kind,) = get_args(cls.model_fields["kind"].annotation)
        assert kind not in cls.kinds, f"two methods of kind {kind}"
        cls.kinds[kind] = cls

    @model_validator(mode="after")
    def _weighting_fits(self) -> Self:
        if self.weighting.kind != "uniform" and self.why_no_weighting:
            raise ValueError(f"{self.kind} takes no weighting: {self.why_no_weighting}")
        if self.splits_weights and not self.weighting.shares:
            raise ValueError(
                f"{self.kind} gives to something else what a weight lacks to 1, and those of "
                f"{self.weighting.kind} are no shares of 1; use mw-net, cmw-net or frozen"
            )
        return self

    @model_validator(mode="after")
    def _overrides_fit(self) -> Self:
        for pattern, changes in self.where.items():
            if unknown := sorted(set(changes) - (set(type(self).model_fields) - {"kind", "label", "where"})):
                raise ValueError(f"where {pattern!r}: unknown option {unknown[0]!r}")
            type(self).model_validate(over(self.model_dump(exclude={"where"}), changes))
        return self

    def begins(self) -> dict[str, int]:
        """The epochs from which something is different, by the names of their options."""
        found = {f"weighting.{name}": epoch for name, epoch in _epochs(self.weighting).items()}
        return _epochs(self) | found

    def at(self, dataset: str, bias: str) -> Self:
        """The options as they are in the cells of a dataset and a bias."""
        options = self.model_dump(exclude={"where"})
        for pattern, changes in self.where.items():
            if fnmatchcase(f"{dataset}/{bias}", pattern):
                options = over(options, changes)
        return type(self).model_validate(options)
