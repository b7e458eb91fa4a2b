"""Options of the methods with one network that remember something of every sample."""

from typing import Literal

from pydantic import Field

from cmw_pipeline.config.fields import Count, Epoch, Fraction, LaterEpoch, NonNegative, Positive
from cmw_pipeline.config.methods.base import First, MethodBase


class Elr(MethodBase):
    """ELR (Liu et al., NeurIPS 2020): early-learning regularisation."""

    implemented_by = "elr:Elr"

    kind: Literal["elr"]
    memory: Fraction = Field(0.7, description="share of the old target that stays")
    strength: NonNegative = Field(3.0, description="of the regulariser")


class Sat(MethodBase):
    """SAT (Huang et al., NeurIPS 2020): self-adaptive training against label noise."""

    implemented_by = "sat:Sat"

    kind: Literal["sat"]
    start_epoch: Epoch = Field(60, description="plain cross-entropy before this epoch")
    memory: Fraction = Field(0.9, description="share of the old target that stays")


class Lrt(MethodBase):
    """LRT, AdaCorr (Zheng et al., ICML 2020): labels corrected by a likelihood-ratio test."""

    implemented_by = "lrt:Lrt"

    kind: Literal["lrt"]
    start_epoch: Epoch = Field(25, description="the anchor's loss begins; plain cross-entropy before")
    correct_after: Epoch = Field(30, description="labels are corrected after this epoch and each later one")
    window: Count = Field(10, description="epochs whose predictions are averaged")
    ratio: Positive = Field(1.2, description="a label changes where the best class is so many times likelier")
    ratio_step: NonNegative = Field(0.02, description="added to the ratio at each correction, the first too")
    anchor_share: NonNegative = Field(0.9, description="weight of the anchor label's cross-entropy")
    anchor_rest: NonNegative = Field(1.0e-4, description="weight of every other label's cross-entropy")
    anchor_interval: Count = Field(40, description="epochs until the anchor is renewed, once")


class Plc(MethodBase):
    """PLC (Zhang et al., ICLR 2021): progressive label correction."""

    implemented_by = "plc:Plc"

    kind: Literal["plc"]
    start_epoch: Epoch = Field(9, description="the first epoch on corrected labels")
    window: Count = Field(5, description="epochs whose predictions are averaged")
    threshold: Fraction = Field(
        0.3, description="a label changes where it is less likely than this share of the best class"
    )
    threshold_step: NonNegative = Field(0.1, description="added when corrections dry up")
    threshold_end: Fraction = 0.9
    dry: Fraction = Field(0.001, description="share of corrected labels below which corrections dry up")


class Sop(MethodBase):
    """SOP (Liu et al., ICML 2022): a sparse correction a sample absorbs what is wrong with its label.

    With ``consistency`` and ``balance`` it is SOP+.
    """

    implemented_by = "sop:Sop"
    divisible = False
    steady = True

    kind: Literal["sop"]
    lr_u: NonNegative = Field(10.0, description="of the correction of the label's entry; constant")
    lr_v: NonNegative = Field(10.0, description="of the correction of the other entries; constant")
    consistency: NonNegative = Field(
        0.0, description="weight of the divergence between two views; 0: one view, SOP+: 0.9"
    )
    balance: NonNegative = Field(
        0.0, description="weight of the evenness of the predictions; 0: none, SOP+: 0.1"
    )
    strong_view: Literal["weak", "strong"] = Field(
        "strong", description="the second view: with AutoAugment, or another weak one"
    )


class Disc(MethodBase):
    """DISC (Li et al., CVPR 2023): clean, hard and corrected labels, by two views and own thresholds."""

    implemented_by = "disc:Disc"
    divisible = False
    steady = True

    kind: Literal["disc"]
    start_epoch: Epoch = Field(20, description="cross-entropy of both views before this epoch")
    memory: Fraction = Field(0.99, description="share of a sample's old threshold that stays, by epoch")
    hard: NonNegative = Field(1.0, description="weight of the samples that one view alone accepts")
    offset: Fraction = Field(
        0.5, description="how much above its threshold a prediction is that corrects a label; 0.99 is enough"
    )
    mixup: NonNegative = Field(5.0, description="α of Beta(α, α); 0: no mixup")
    strong_view: Literal["weak", "strong"] = Field(
        "strong", description="the second view: with AutoAugment, or another weak one"
    )


class ActiveBias(MethodBase):
    """ActiveBias, SGD-WPV (Chang et al., NeurIPS 2017): uncertain samples weigh more."""

    implemented_by = "active_bias:ActiveBias"
    steady = True
    why_no_weighting = "its own weights are the method"

    kind: Literal["active-bias"]
    start_epoch: LaterEpoch = Field(25, description="uniform weights before this epoch")
    smoothing: Positive = Field(0.2, description="added to each uncertainty")


class Selfie(MethodBase):
    """SELFIE (Song et al., ICML 2019): small losses and refurbished labels."""

    implemented_by = "selfie:Selfie"
    steady = True
    why_no_weighting = "it chooses the samples that count by itself"

    kind: Literal["selfie"]
    start_epoch: Epoch = Field(25, description="all samples are trained on before this epoch")
    forget_rate: Fraction = Field(description="τ, share of a batch with the largest losses: the noise rate")
    window: Count = Field(15, description="q, epochs whose predictions must agree")
    entropy: Fraction = Field(0.05, description="of these predictions, as a share of log K, at most")
    first: First | None = Field(
        None, description="a SELFIE run that this one restarts from, keeping its labels; null: none"
    )
