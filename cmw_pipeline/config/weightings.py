"""Options of every weighting: how much each sample's loss counts; ``kind`` says which one."""

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self, Union, get_args

from pydantic import Field, model_validator

from cmw_pipeline.config.fields import Count, Epoch, MetaName, Model, NonNegative, Positive, RunName

Normalisation = Annotated[
    Literal["mean", "sum"],
    Field(description="divide the weighted loss by the batch size or by the detached sum of weights"),
]
Beta = Annotated[float, Field(ge=0, lt=1, description="of the effective number of samples")]


class WeightingBase(Model):
    """What every weighting has."""

    kinds: ClassVar[dict[str, type["WeightingBase"]]] = {}
    """The options of each weighting by its kind."""

    implemented_by: ClassVar[str]
    """``module:Class`` below ``cmw_pipeline.methods.weightings``."""
    shares: ClassVar[bool] = False
    """Whether what a weight lacks to 1 can be given to something else; above 1 nothing is left to give."""

    kind: str
    start_epoch: Epoch = Field(
        0, description="all losses count alike before this epoch, and before the method's start_epoch"
    )

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        for kind in get_args(cls.model_fields["kind"].annotation):
            assert kind not in cls.kinds, f"two weightings of kind {kind}"
            cls.kinds[kind] = cls


class Uniform(WeightingBase):
    """Uniform: all losses count alike."""

    implemented_by = "uniform:Uniform"
    shares = True

    kind: Literal["uniform"]


class ClassBalanced(WeightingBase):
    """Class-balanced weights (Cui et al., CVPR 2019): classes weigh as their inverse effective numbers."""

    implemented_by = "class_balanced:ClassBalanced"

    kind: Literal["class-balanced"]
    beta: Beta = 0.9999
    normalisation: Normalisation = "mean"


class MetaLearned(WeightingBase):
    """What the weightings share that learn on a meta-set."""

    meta_set: MetaName = Field(description="clean-K, lowest-K, any-K, random-min or labelled")
    meta_batch: Count = 100
    meta_every: Count = Field(1, description="iterations from one meta step to the next")
    meta_mixup: NonNegative = Field(0.0, description="α of the meta batch's mixup; 0: none")
    meta_loss: Literal["labels", "dac-mr", "clid-mu"] = Field(
        "labels",
        description="by the labels of the meta-set, or by none: two views of a picture are predicted alike"
        " (DAC-MR), or what has like features is (CLID-MU)",
    )
    meta_strong_view: Literal["weak", "strong"] = Field(
        "strong", description="DAC-MR's second view: with AutoAugment, or another weak one"
    )

    @property
    def meta_views(self) -> tuple[Literal["weak", "strong"], ...]:
        """How the images of a meta batch are shown."""
        return ("weak", self.meta_strong_view) if self.meta_loss == "dac-mr" else ("weak",)

    @model_validator(mode="after")
    def _meta_loss_fits(self) -> Self:
        if self.meta_loss == "labels" and self.meta_set.startswith("any-"):
            raise ValueError(
                f"{self.meta_set} takes samples whatever their labels, and a meta loss by labels needs right "
                "ones; give meta_loss: dac-mr or clid-mu, or another meta_set"
            )
        if self.meta_loss != "labels" and self.meta_mixup:
            raise ValueError(f"meta_mixup mixes labels, and {self.meta_loss} reads none; leave it out")
        return self


class L2rw(MetaLearned):
    """L2RW (Ren et al., ICML 2018): learning to reweight examples."""

    implemented_by = "l2rw:L2rw"

    kind: Literal["l2rw"]


class Mcw(MetaLearned):
    """MCW (Jamal et al., CVPR 2020): class-balanced weights plus a correction learned for each sample."""

    implemented_by = "mcw:Mcw"

    kind: Literal["mcw"]
    beta: Beta = 0.9999
    step: Positive = Field(0.01, description="size of the correction's one gradient step")


class WeightNet(Model):
    """The network from a sample's loss to its weight, and its Adam optimiser."""

    hidden: Count = 100
    lr: Positive = 1.0e-3
    weight_decay: NonNegative = 1.0e-4
    amsgrad: bool = False


class NetWeighting(MetaLearned):
    """What the weightings share that are a learned function of the loss, and can be transferred."""

    implemented_by = "weight_net:NetWeighting"
    shares = True

    groups: int
    normalisation: Normalisation = "mean"
    weight_net: WeightNet = WeightNet()
    levels: Literal["free", "bounded"] = Field(
        "free", description="of the class groups, as published; or between 1 and what their sizes justify"
    )
    level_power: Positive = Field(
        3.0, description="p of bounded levels: a group's lies between 1 and (mean class size / its own)^p"
    )


class CmwNet(NetWeighting):
    """CMW-Net (Shu et al., TPAMI 2023): one function per group of classes of similar size."""

    kind: Literal["cmw-net"]
    groups: Count = 3


class MwNet(NetWeighting):
    """Meta-Weight-Net (Shu et al., NeurIPS 2019): CMW-Net with one group, one function for all classes."""

    kind: Literal["mw-net"]
    groups: Literal[1] = 1


class Frozen(WeightingBase):
    """Frozen function of another run (Shu et al., TPAMI 2023, section 6): no meta-set, no meta step."""

    implemented_by = "frozen:Frozen"
    shares = True

    kind: Literal["frozen"]
    run: RunName = Field(description="the run it was learned in: dataset/bias/method/recipe/seedN")
    normalisation: Normalisation = "mean"


if TYPE_CHECKING:
    Weighting = WeightingBase
else:
    Weighting = Annotated[Union[tuple(WeightingBase.kinds.values())], Field(discriminator="kind")]  # noqa: UP007
