"""The models of ``params.yaml``: frozen, strict, no unknown keys. The JSON schema is generated from them."""

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from cmw_pipeline.config.audits import Audit
from cmw_pipeline.config.datasets import FACTS
from cmw_pipeline.config.fields import (
    BiasName,
    Count,
    Distinct,
    Model,
    Name,
    NonNegative,
    Positive,
    RunName,
    Seed,
    Some,
    TableName,
    Text,
)
from cmw_pipeline.config.methods import Method
from cmw_pipeline.config.methods.base import First
from cmw_pipeline.config.origins import Archives
from cmw_pipeline.config.pretrained import PRETRAINED


def _source(name: str) -> str:
    try:
        FACTS[name]
    except KeyError:
        raise ValueError(f"should be one of {', '.join(FACTS)}, or folder-K") from None
    return name


class Dataset(Model):
    """Where a dataset comes from."""

    source: Annotated[str, AfterValidator(_source)] = Field(
        description="a dataset this package reads, or folder-K: class folders of your own, K classes"
    )
    form: str | None = Field(
        None,
        description="which of the published forms to download, where there are several; null: the first",
    )
    teacher: First | None = Field(
        None, description="the run on clean labels whose posterior makes feature-dependent noise"
    )

    @model_validator(mode="after")
    def _form_is_published(self) -> Self:
        origin = FACTS[self.source].origin
        forms = list(origin.forms) if isinstance(origin, Archives) else []
        if self.form is not None and self.form not in forms:
            known = f"it has {', '.join(forms)}" if forms else "leave form out"
            raise ValueError(f"{self.source} is not published as {self.form!r}; {known}")
        return self


class Network(Model):
    """The classifier."""

    name: Literal[
        "small-cnn", "resnet32", "resnet34", "preact-resnet18", "preact-resnet34", "vgg16-bn", "small-vgg",
        "wrn28", "fast-cnn", "resnet50", "resnext50", "inception-resnet-v2", "vgg19-bn", "bcnn",
        "linear", "mlp",
    ]  # fmt: skip
    width: Count | None = Field(
        None, description="channels of the first stage; null, and always for large networks: its own"
    )
    pretrained: bool = Field(
        False, description="start from published weights; `cmw download pretrained/bcnn`"
    )

    @model_validator(mode="after")
    def _large_ones_are_as_published(self) -> Self:
        fixed = ("linear", "resnet50", "resnext50", "inception-resnet-v2", "vgg19-bn", "bcnn")
        if self.width is not None and self.name in fixed:
            raise ValueError(f"{self.name} has one width; leave width out")
        return self

    @model_validator(mode="after")
    def _weights_are_published(self) -> Self:
        if self.pretrained and self.name not in PRETRAINED:
            raise ValueError(f"no weights of {self.name} are known, only of {', '.join(PRETRAINED)}")
        return self


class Optimizer(Model):
    """The classifier's: stochastic gradient descent, or Adam with L2 weight decay."""

    name: Literal["sgd", "adam"] = Field("sgd")
    lr: Positive
    momentum: float = Field(0.9, ge=0, lt=1, description="for adam: beta 1; its beta 2 is 0.999")
    nesterov: bool = False
    weight_decay: NonNegative = 5.0e-4

    @model_validator(mode="after")
    def _nesterov_is_for_sgd(self) -> Self:
        if self.nesterov and self.name != "sgd":
            raise ValueError(f"{self.name} has no nesterov; leave it out")
        return self


class Constant(Model):
    """The same rate in every epoch."""

    name: Literal["constant"] = "constant"
    warmup_epochs: int = Field(0, ge=0, description="linear from 0 to the rate over these epochs")


class Steps(Model):
    """The rate is multiplied by ``factor`` at each milestone epoch."""

    name: Literal["steps"]
    milestones: Distinct[Count]
    factor: Positive = 0.1
    warmup_epochs: int = Field(0, ge=0, description="linear from 0 to the rate over these epochs")


class Cosine(Model):
    """Half a cosine from the rate to ``floor`` over all epochs."""

    name: Literal["cosine"]
    floor: NonNegative = 0.0
    warmup_epochs: int = Field(0, ge=0, description="linear from 0 to the rate over these epochs")


class SlowCosine(Model):
    """FixMatch's: the rate times cos(7/16 π t), t the share of epochs that are over; it ends at a fifth."""

    name: Literal["slow-cosine"]
    warmup_epochs: int = Field(0, ge=0, description="linear from 0 to the rate over these epochs")


class Restarts(Model):
    """Constant until epoch ``start``, then cosine cycles of period, period*mult, ... down to ``floor``."""

    name: Literal["restarts"]
    start: int = Field(0, ge=0)
    period: Count = 5
    mult: Count = 2
    floor: NonNegative = 1.0e-4
    warmup_epochs: int = Field(0, ge=0, description="linear from 0 to the rate over these epochs")


Schedule = Annotated[Constant | Steps | Cosine | SlowCosine | Restarts, Field(discriminator="name")]


class Augment(Model):
    """Random crop after padding, horizontal flip, rotation, and cutout."""

    pad: int = Field(0, ge=0, description="pixels added on each side before a random crop")
    pad_mode: Literal["zero", "reflect"] = "zero"
    flip: bool = False
    rotate: float = Field(0.0, ge=0, le=180, description="degrees that an image turns either way at most")
    cutout: int = Field(0, ge=0, description="side of the square without content; 0: none")


class Picture(Model):
    """How image files become pictures of one size, for the datasets of image files."""

    side: Count = Field(description="height and width of the picture in pixels; predictions see the centre")
    resize: Count | None = Field(None, description="shorter side before the crop; null: as the file has it")
    crop: Literal["random", "resized"] = Field(
        "random", description="training sees a random part of this size, or a random part resized to it"
    )

    @model_validator(mode="after")
    def _crops_fit(self) -> Self:
        if self.resize is not None and self.resize < self.side:
            raise ValueError(f"a side of {self.side} cannot be cut from a shorter side of {self.resize}")
        return self


class Recipe(Model):
    """How a classifier is trained, whatever the method."""

    network: Network
    optimizer: Optimizer
    schedule: Schedule = Constant()
    epochs: Count
    batch_size: Count
    augment: Augment = Augment()
    picture: Picture | None = Field(
        None,
        description="for datasets of image files; their only augmentation besides is flip",
    )
    start_from: Name | None = Field(
        None,
        description="a recipe: the same cell's run under it gives the weights that training starts from",
    )
    head_only: bool = Field(False, description="train the output layer alone")
    ema: float | None = Field(None, gt=0, lt=1, description="decay of the averaged weights; null: none")
    precision: Literal["auto", "fp32", "tf32", "bf16"] = Field(
        "fp32",
        description="of convolutions and products; weights and statistics stay float32. auto: what is fastest"
        " on the device, and in its memory order; the run says which",
    )
    channels_last: bool = Field(False, description="the memory order that many processors prefer")
    compile: bool = Field(False, description="compile the whole iteration; minutes at the start of a run")
    capture: bool = Field(False, description="on a GPU: the whole iteration as one CUDA graph")
    low_memory: bool = Field(
        False, description="meta steps with one set of activations alive, for a second forward pass"
    )
    evaluate_every: Count = Field(
        1, description="epochs from one evaluation on the test samples to the next; the last one always is"
    )
    smoke: bool = Field(False, description="too short to compare with anything; tables say so")

    @model_validator(mode="after")
    def _one_kind_of_crop(self) -> Self:
        augment = self.augment
        if self.picture is not None and (augment.pad or augment.rotate or augment.cutout):
            raise ValueError("with a picture, augment may only flip: files are cropped as they are decoded")
        return self


class Block(Model):
    """A rectangle of the grid: every bias x every method x every seed."""

    dataset: Name
    biases: Name = Field(description="a list of the section biases")
    methods: Some[Name]
    recipe: Name


Score = Literal["confidence", "softmax_response", "mc_dropout"]
"""How sure a prediction is: the method's own confidence, largest probability, variance under dropout."""
Measure = Annotated[str, Field(pattern=r"^[a-z0-9-]+_top[15]$")]


class Table(Model):
    """One table: which cells, and how they are shown."""

    title: Text
    caption: Text | None = Field(None, description="what has to be known before reading, below the title")
    metric: Literal["accuracy", "ema_accuracy", "error", "risk-coverage"] = Field(
        "accuracy",
        description="ema_accuracy: of the averaged weights; risk-coverage: error among the surest"
        " predictions, at several coverages, and its area",
    )
    scores: dict[Name, Annotated[dict[Score, Text], Field(min_length=1)]] = Field(
        default={},
        description="risk-coverage: method -> score to rank by -> its row; others: their own confidence",
    )
    figure: Literal["points", "bars"] = Field(
        "points", description="bars: a line of bars a dataset, published bars beside ours"
    )
    test_sets: Distinct[Measure] = Field(
        default=[],
        description="a column for each: SET_top1 or SET_top5 of a named test set, as webvision_top1",
    )
    published: Name | None = Field(None, description="the published table whose values stand beside ours")
    quoted: dict[Text, Text] = Field(
        default={}, description="rows of the published table that are shown without runs of ours -> why"
    )
    seeds: Some[Seed] | None = Field(None, description="in place of the file's seeds")
    weighting_figures: Distinct[RunName] = Field(
        default=[], description="runs whose learned weighting function is drawn below the table"
    )
    beside_published_weighting: RunName | None = Field(
        None, description="the run whose learned function is drawn beside the published one"
    )
    grid: list[Block] = Field(min_length=1)

    @model_validator(mode="after")
    def _scores_fit(self) -> Self:
        if self.metric != "risk-coverage":
            if self.scores:
                raise ValueError("scores rank predictions; only the metric risk-coverage has a use for them")
            return self
        if self.published or self.figure == "bars":
            raise ValueError("a table of risk-coverage has no published values and a figure of its own")
        if unused := set(self.scores) - {method for block in self.grid for method in block.methods}:
            raise ValueError(f"scores of {sorted(unused)[0]!r}, which is no method of this table")
        return self


class Params(Model):
    """All of ``params.yaml``."""

    include: Distinct[str] = Field(
        default=[], description="files, and folders of YAML files, that are read with this one"
    )
    build: Distinct[TableName] = Field(description="the tables that `snakemake` and `dvc repro` make")
    seeds: Some[Seed] = Field(description="training seeds; one run each")
    bias_seed: Seed = Field(description="seed of every bias and meta-set draw; not of training")
    datasets: dict[Name, Dataset]
    biases: dict[Name, Some[BiasName]] = Field(
        description="named lists of biases: none, lt-100, sym-0.4, asym-0.4, lt-10+sym-0.2, ..."
    )
    methods: dict[Name, Method]
    recipes: dict[Name, Recipe]
    tables: dict[TableName, Table]
    audits: dict[Name, Audit] = Field(default={}, description="audits that `snakemake audits` makes")
