"""Options of the methods with two networks that teach each other by selection or by averages."""

from typing import Literal

from pydantic import Field

from cmw_pipeline.config.fields import Count, Epoch, Fraction, NonNegative, Positive
from cmw_pipeline.config.methods.base import MethodBase


class CoTeaching(MethodBase):
    """Co-teaching (Han et al., NeurIPS 2018): each network learns from the other's small losses."""

    implemented_by = "co_teaching:CoTeaching"
    towers = 2
    why_no_weighting = "each of its two networks chooses the samples of the other"

    kind: Literal["co-teaching"]
    forget_rate: Fraction = Field(description="share of a batch left out in the end: the noise rate")
    ramp_epochs: Epoch = Field(10, description="from the start until the whole rate is left out")
    exponent: Positive = Field(1.0, description="of the ramp")


class Decoupling(MethodBase):
    """Decoupling (Malach & Shalev-Shwartz, NeurIPS 2017): two networks learn where they disagree."""

    implemented_by = "decoupling:Decoupling"
    towers = 2
    why_no_weighting = "its two networks choose the samples that count"

    kind: Literal["decoupling"]


class PeerLearning(MethodBase):
    """Peer-learning (Sun et al., ICCV 2021): disagreements, and the other's small losses elsewhere."""

    implemented_by = "peer_learning:PeerLearning"
    towers = 2
    why_no_weighting = "its two networks choose the samples that count"

    kind: Literal["peer-learning"]
    forget_rate: Fraction = Field(0.25, description="share of the agreements left out in the end")
    ramp_epochs: Epoch = Field(10, description="from the start until the whole rate is left out")
    exponent: Positive = Field(1.0, description="of the ramp")


class ElrPlus(MethodBase):
    """ELR+ (Liu et al., NeurIPS 2020): ELR with two networks, averages of weights, mixup."""

    implemented_by = "elr_plus:ElrPlus"
    towers = 2
    needs_teacher = True
    divisible = False
    why_no_weighting = "its two networks have losses of mixed labels, and one weight would serve both"

    kind: Literal["elr-plus"]
    memory: Fraction = Field(0.7, description="share of the old target that stays")
    strength: NonNegative = Field(3.0, description="of the regulariser")
    strength_ramp: Epoch = Field(0, description="iterations until its whole strength; 0: at once")
    mixup: NonNegative = Field(1.0, description="α of Beta(α, α); 0: no mixup")
    refine: bool = Field(False, description="multiply the mixed label by the mixed target (CIFAR-100)")
    teacher_ramp: Count | None = Field(
        40_000,
        description="iterations until the recipe's decay; null: a plain mean of the steps so far until then",
    )
