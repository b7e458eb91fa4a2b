"""The models of ``params.yaml``: frozen, strict, no unknown keys. The JSON schema is generated from them."""

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

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
BiasName = Annotated[str, AfterValidator(_bias_name)]
MetaName = Annotated[str, AfterValidator(_meta_name)]
Seed = Annotated[int, Field(ge=0, lt=2**31)]
Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]
RunName = Annotated[str, Field(pattern=r"^[^/]+/[^/]+/[^/]+/[^/]+/seed[0-9]+$")]
"""dataset/bias/method/recipe/seedN."""


class Model(BaseModel):
    """Strict base: no coercion, no unknown keys, no NaN, immutable."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class Dataset(Model):
    """Where a dataset comes from."""

    source: Literal["digits", "cifar10", "cifar100"] = Field(description="a dataset this package reads")
    form: Literal["binary", "python"] = Field(
        "binary", description="which published archive to download (CIFAR only)"
    )


class Network(Model):
    """The classifier."""

    name: Literal["small-cnn", "resnet32", "resnet34", "preact-resnet18", "preact-resnet34"]
    width: Count | None = Field(None, description="channels of the first stage; null: the network's own")


class Sgd(Model):
    """Stochastic gradient descent of the classifier."""

    lr: Positive
    momentum: float = Field(0.9, ge=0, lt=1)
    nesterov: bool = False
    weight_decay: NonNegative = 5.0e-4


class Constant(Model):
    """The same rate in every epoch."""

    name: Literal["constant"] = "constant"
    warmup_epochs: int = Field(0, ge=0, description="linear from 0 to the rate over these epochs")


class Steps(Model):
    """The rate is multiplied by ``factor`` at each milestone epoch."""

    name: Literal["steps"]
    milestones: list[Count]
    factor: Positive = 0.1
    warmup_epochs: int = Field(0, ge=0, description="linear from 0 to the rate over these epochs")


class Cosine(Model):
    """Half a cosine from the rate to ``floor`` over all epochs."""

    name: Literal["cosine"]
    floor: NonNegative = 0.0
    warmup_epochs: int = Field(0, ge=0, description="linear from 0 to the rate over these epochs")


class Restarts(Model):
    """Constant until epoch ``start``, then cosine cycles of period, period*mult, ... down to ``floor``."""

    name: Literal["restarts"]
    start: int = Field(0, ge=0)
    period: Count = 5
    mult: Count = 2
    floor: NonNegative = 1.0e-4
    warmup_epochs: int = Field(0, ge=0, description="linear from 0 to the rate over these epochs")


Schedule = Annotated[Constant | Steps | Cosine | Restarts, Field(discriminator="name")]


class Augment(Model):
    """Random crop after padding, and horizontal flip."""

    pad: int = Field(0, ge=0, description="pixels added on each side before a random crop")
    pad_mode: Literal["zero", "reflect"] = "zero"
    flip: bool = False


class Recipe(Model):
    """How a classifier is trained, whatever the method."""

    network: Network
    optimizer: Sgd
    schedule: Schedule = Constant()
    epochs: Count
    batch_size: Count
    augment: Augment = Augment()
    ema: float | None = Field(None, gt=0, lt=1, description="decay of the averaged weights; null: none")
    smoke: bool = Field(False, description="too short to compare with anything; tables say so")


class MethodBase(Model):
    """What every method has."""

    label: str = Field(min_length=1, max_length=60, description="its row in the tables")


class Erm(MethodBase):
    """Empirical risk minimisation: mean cross-entropy of the given labels."""

    kind: Literal["erm"]


class WeightNet(Model):
    """The network from a sample's loss to its weight, and its Adam optimiser."""

    hidden: Count = 100
    lr: Positive = 1.0e-3
    weight_decay: NonNegative = 1.0e-4


class MetaLearned(MethodBase):
    """What the meta-learned weightings share."""

    meta_set: MetaName = Field(description="clean-K, lowest-K or random-min")
    meta_batch: Count = 100
    meta_every: Count = Field(1, description="iterations from one meta step to the next")
    start_epoch: int = Field(0, ge=0, description="plain cross-entropy before this epoch")
    normalisation: Literal["mean", "sum"] = Field(
        "mean",
        description="divide the weighted loss by the batch size or by the detached sum of weights",
    )
    weight_net: WeightNet = WeightNet()


class MwNet(MetaLearned):
    """Meta-Weight-Net (Shu et al., NeurIPS 2019): one function for all classes."""

    kind: Literal["mw-net"]


class CmwNet(MetaLearned):
    """CMW-Net (Shu et al., TPAMI 2023): one function per group of classes of similar size."""

    kind: Literal["cmw-net"]
    groups: Count = 3


class Transfer(MethodBase):
    """Training under a frozen weighting function that another run learned."""

    kind: Literal["transfer"]
    weighting: RunName = Field(description="the run it was learned in: dataset/bias/method/recipe/seedN")
    start_epoch: int = Field(0, ge=0, description="plain cross-entropy before this epoch")
    normalisation: Literal["mean", "sum"] = "mean"


Method = Annotated[Erm | MwNet | CmwNet | Transfer, Field(discriminator="kind")]


class Block(Model):
    """A rectangle of the grid: every bias x every method x every seed."""

    dataset: Name
    biases: Name = Field(description="a list of the section biases")
    methods: list[Name] = Field(min_length=1)
    recipe: Name


class Table(Model):
    """One table: which cells, and how they are shown."""

    title: str
    metric: Literal["accuracy", "error"] = "accuracy"
    published: Name | None = Field(None, description="the published table whose values stand beside ours")
    seeds: list[Seed] | None = Field(None, min_length=1, description="in place of the file's seeds")
    weighting_figures: list[RunName] = Field(
        default=[], description="runs whose learned weighting function is drawn below the table"
    )
    grid: list[Block] = Field(min_length=1)


class Params(Model):
    """All of ``params.yaml``."""

    build: list[Name] = Field(description="the tables that `snakemake` and `dvc repro` make")
    seeds: list[Seed] = Field(min_length=1, description="training seeds; one run each")
    bias_seed: Seed = Field(description="seed of every bias and meta-set draw; not of training")
    datasets: dict[Name, Dataset]
    biases: dict[Name, Annotated[list[BiasName], Field(min_length=1)]] = Field(
        description="named lists of biases: none, lt-100, sym-0.4, asym-0.4, lt-10+sym-0.2, ..."
    )
    methods: dict[Name, Method]
    recipes: dict[Name, Recipe]
    tables: dict[Name, Table]
