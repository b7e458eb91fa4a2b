"""Options of the methods that learn sample weights on a meta-set, or use weights learned before."""

from typing import Literal

from pydantic import Field

from cmw_pipeline.config.methods.base import (
    Count,
    Epoch,
    First,
    Fraction,
    MetaName,
    MethodBase,
    Model,
    NonNegative,
    Positive,
    RunName,
)

BaseLoss = Literal["ce", "ldam", "sade"]
"""The per-sample loss under the weights: cross-entropy, LDAM on a cosine head, or SADE's three experts."""


class MetaLearned(MethodBase):
    """What the meta-learned weightings share."""

    meta_set: MetaName = Field(description="clean-K, lowest-K or random-min")
    meta_batch: Count = 100
    meta_every: Count = Field(1, description="iterations from one meta step to the next")
    base_loss: BaseLoss = "ce"


class L2rw(MetaLearned):
    """Learning to reweight examples (Ren et al., ICML 2018)."""

    kind: Literal["l2rw"]


class Mcw(MetaLearned):
    """Class-balanced weights plus a meta-learned correction a sample (Jamal et al., CVPR 2020)."""

    kind: Literal["mcw"]
    beta: float = Field(0.9999, ge=0, lt=1, description="of the effective number of samples")
    step: Positive = Field(0.01, description="size of the correction's one gradient step")


class WeightNet(Model):
    """The network from a sample's loss to its weight, and its Adam optimiser."""

    hidden: Count = 100
    lr: Positive = 1.0e-3
    weight_decay: NonNegative = 1.0e-4
    amsgrad: bool = False


class WeightNetMethod(MetaLearned):
    """What the methods with a weight net share."""

    normalisation: Literal["mean", "sum"] = Field(
        "mean",
        description="divide the weighted loss by the batch size or by the detached sum of weights",
    )
    weight_net: WeightNet = WeightNet()


class MwNet(WeightNetMethod):
    """Meta-Weight-Net (Shu et al., NeurIPS 2019): one function for all classes."""

    kind: Literal["mw-net"]


class CmwNet(WeightNetMethod):
    """CMW-Net (Shu et al., TPAMI 2023): one function per group of classes of similar size."""

    kind: Literal["cmw-net"]
    groups: Count = 3


class SoftLabels(MethodBase):
    """What the methods share that give a teacher's soft label what the given label loses in weight."""

    mixup: NonNegative = Field(1.0, description="α of Beta(α, α); 0: no mixup")
    memory: Fraction = Field(0.0, description="share of the old soft label that stays; 0: none is kept")
    memory_start: Literal["given", "teacher"] = Field(
        "teacher", description="the first soft label: the given label, or the teacher's"
    )
    memory_top: Count | None = Field(
        None,
        description="so many classes of each soft label are kept, in half precision; null: all, in single",
    )
    partner_weight: Literal["partner-label", "permuted"] = Field(
        "partner-label",
        description="a mixed partner's weight: of its label on this image, or as published for Table 2",
    )


class CmwNetSl(WeightNetMethod, SoftLabels):
    """CMW-Net-SL: the weight that a given label loses goes to the teacher's soft label."""

    kind: Literal["cmw-net-sl"]
    groups: Count = 3
    meta_mixup: NonNegative = Field(0.0, description="α of the meta batch's mixup; 0: none")
    teacher_until: Epoch | None = Field(None, description="the teacher stands still from this epoch on")
    first: First | None = Field(None, description="ours: a SimCLR run to start from; null: from scratch")
    strong_view: bool = Field(
        False, description="ours: soft labels from the weak view, the gradient from the strong one"
    )


class MetaNets(WeightNet):
    """The label corrector and the margin generator, and the Adam optimiser of both."""

    hidden: Count = 64
    lr: Positive = 3.0e-3
    weight_decay: NonNegative = 0.0


class DynamicLoss(MethodBase):
    """Dynamic Loss (Jiang et al., TPAMI 2023): learned label correction and margins; picks its meta-set."""

    kind: Literal["dynamic-loss"]
    start_epoch: Epoch = Field(5, description="plain cross-entropy before this epoch")
    warm_corrector: bool = Field(
        True, description="before that, the corrector learns to give the label back; false: it only starts so"
    )
    ranks: Count = Field(100, description="bins of a loss's rank among those of its class")
    primary_share: float = Field(
        0.5, gt=0, lt=1, description="of the smallest class, drawn of each class in every epoch"
    )
    meta_share: float = Field(0.5, gt=0, le=1, description="of these, the lowest losses: the meta-set")
    strong_view: Literal["weak", "strong"] = Field(
        "strong", description="what is trained on: with AutoAugment, or without"
    )
    meta_net: MetaNets = MetaNets()


class Transferred(MethodBase):
    """Training under a frozen weighting function that another run learned."""

    weighting: RunName = Field(description="the run it was learned in: dataset/bias/method/recipe/seedN")
    normalisation: Literal["mean", "sum"] = "mean"


class Transfer(Transferred):
    """A weighted mean of the losses."""

    kind: Literal["transfer"]


class TransferSl(Transferred, SoftLabels):
    """What the function takes from the given label goes to the teacher's soft label."""

    kind: Literal["transfer-sl"]
