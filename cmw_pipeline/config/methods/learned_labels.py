"""Options of the methods that put a teacher's or a learned label in the place of the given one."""

from typing import Literal

from pydantic import Field

from cmw_pipeline.config.fields import Count, Epoch, Fraction, NonNegative, Positive
from cmw_pipeline.config.methods.base import First, MethodBase
from cmw_pipeline.config.weightings import WeightNet


class SoftLabels(MethodBase):
    """Soft labels of CMW-Net-SL (Shu et al., TPAMI 2023): they get the weight that a given label loses.

    With ``first`` and ``strong_view`` it is our strengthened variant: published CMW-Net-SL+ is undescribed.
    """

    implemented_by = "soft_labels:SoftLabels"
    needs_teacher = True
    starts_from_first = True
    steady = True
    splits_weights = True

    kind: Literal["soft-labels"]
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
    teacher_until: Epoch | None = Field(None, description="the teacher stands still from this epoch on")
    first: First | None = Field(None, description="ours: a SimCLR run to start from; null: from scratch")
    strong_view: bool = Field(
        False, description="ours: soft labels from the weak view, the gradient from the strong one"
    )


class L2b(MethodBase):
    """L2B (Zhou et al., CVPR 2024): a loss of the label and one of the own guess, weighed apart.

    Published under L2RW, which learns both weights.
    """

    implemented_by = "l2b:L2b"
    steady = True

    kind: Literal["l2b"]


class MetaNets(WeightNet):
    """The label corrector and the margin generator, and the Adam optimiser of both."""

    hidden: Count = 64
    lr: Positive = 3.0e-3
    weight_decay: NonNegative = 0.0


class DynamicLoss(MethodBase):
    """Dynamic Loss (Jiang et al., TPAMI 2023): learned label correction and margins; picks its meta-set."""

    implemented_by = "dynamic_loss:DynamicLoss"
    divisible = False
    steady = True
    steps_as_optimizer = True
    why_no_weighting = "it learns labels and margins in the place of weights"

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
