"""Options of the methods that are a loss, a head, or both."""

from typing import Annotated, Literal

from pydantic import Field

from cmw_pipeline.config.fields import Count, Epoch, NonNegative, Positive
from cmw_pipeline.config.methods.base import First, MethodBase

Open = Annotated[float, Field(gt=0, lt=1)]


class NoiseTeacher(MethodBase):
    """Teacher of feature-dependent noise (Zhang et al., ICLR 2021): plain training on clean labels."""

    implemented_by = "noise_teacher:NoiseTeacher"
    why_no_weighting = "it trains on clean labels, which all count alike"

    kind: Literal["noise-teacher"]


class Erm(MethodBase):
    """ERM: empirical risk minimisation, the mean cross-entropy of the given labels."""

    implemented_by = "erm:Erm"
    steady = True

    kind: Literal["erm"]


class Focal(MethodBase):
    """Focal loss (Lin et al., ICCV 2017): what is already predicted with confidence counts less."""

    implemented_by = "focal:Focal"
    steady = True

    kind: Literal["focal"]
    gamma: NonNegative = Field(1.0, description="0: cross-entropy")
    form: Literal["softmax", "sigmoid"] = Field(
        "sigmoid",
        description="sigmoid: a yes-or-no question for each class, as Cui et al. have it",
    )


class Ldam(MethodBase):
    """LDAM (Cao et al., NeurIPS 2019): larger margins for rare classes.

    LDAM-DRW is LDAM under a class-balanced weighting that starts late.
    """

    implemented_by = "ldam:Ldam"
    head = "cosine"
    steady = True

    kind: Literal["ldam"]
    largest_margin: Positive = Field(0.5, description="of the rarest class, as a cosine")


class LogitAdjustment(MethodBase):
    """Logit adjustment (Menon et al., ICLR 2021): logits shifted by the log prior of their class in training.

    Balanced softmax (Ren et al., NeurIPS 2020) with ``tau`` 1, CDT (Ye et al., 2020) with 0, vector scaling
    (Kini et al., NeurIPS 2021) with a ``gamma``.
    """

    implemented_by = "logit_adjustment:LogitAdjustment"
    steady = True

    kind: Literal["logit-adjustment"]
    tau: NonNegative = Field(1.0, description="share of the log prior that is added to the logits")
    gamma: NonNegative = Field(0.0, description="logits are divided by (largest class / class)^gamma")


class PostHoc(MethodBase):
    """Post-hoc logit adjustment (Menon et al., ICLR 2021): ERM, less the log prior at the end."""

    implemented_by = "post_hoc:PostHoc"
    steady = True

    kind: Literal["post-hoc"]
    tau: NonNegative = Field(1.0, description="share of the log prior that is taken from the logits")


class TauNorm(MethodBase):
    """Tau-normalisation (Kang et al., ICLR 2020): ERM, whose class vectors get like lengths at the end."""

    implemented_by = "tau_norm:TauNorm"
    steady = True

    kind: Literal["tau-norm"]
    tau: NonNegative = Field(
        1.0, description="1: all of one length, 0: as trained; its authors choose it on validation data"
    )


class Crt(MethodBase):
    """cRT (Kang et al., ICLR 2020): the output layer is trained anew, on classes of even share."""

    implemented_by = "crt:Crt"
    starts_from_first = True
    steady = True

    kind: Literal["crt"]
    first: First = Field(description="the run whose features it classifies; its own recipe has head_only")


class Sce(MethodBase):
    """SCE (Wang et al., ICCV 2019): cross-entropy and, robust to wrong labels, its reverse."""

    implemented_by = "sce:Sce"
    steady = True

    kind: Literal["sce"]
    alpha: NonNegative = Field(0.1, description="weight of the cross-entropy")
    beta: NonNegative = Field(1.0, description="weight of the reverse cross-entropy")


class NceRce(MethodBase):
    """NCE+RCE (Ma et al., ICML 2020): normalised and reverse cross-entropy, an active and a passive loss."""

    implemented_by = "nce_rce:NceRce"
    steady = True

    kind: Literal["nce-rce"]
    alpha: NonNegative = Field(1.0, description="weight of the normalised cross-entropy")
    beta: NonNegative = Field(1.0, description="weight of the reverse cross-entropy")


class JensenShannon(MethodBase):
    """JS (Englesson & Azizpour, NeurIPS 2021): between cross-entropy and mean absolute error."""

    implemented_by = "jensen_shannon:JensenShannon"
    steady = True

    kind: Literal["jensen-shannon"]
    pi: Open = Field(0.5, description="weight of the label; towards 0: cross-entropy")


class Gjs(MethodBase):
    """GJS (Englesson & Azizpour, NeurIPS 2021): JS of the label and the predictions on two views."""

    implemented_by = "gjs:Gjs"
    divisible = False
    steady = True

    kind: Literal["gjs"]
    pi: Open = Field(0.5, description="weight of the label; the two views share the rest")
    strong_view: Literal["weak", "strong"] = Field(
        "strong", description="the second view: with AutoAugment, or another weak one"
    )


class Cores(MethodBase):
    """CORES (Cheng et al., ICLR 2021): confidence is rewarded, and improbable labels are sieved out."""

    implemented_by = "cores:Cores"

    kind: Literal["cores"]
    beta: NonNegative = Field(2.0, description="weight of the reward of confidence after its ramp")
    reward_from: Epoch = Field(10, description="plain cross-entropy before this epoch")
    ramp_epochs: Count = Field(30, description="over which the reward grows to its whole weight")
    sieve_from: Epoch = Field(30, description="the first epoch in which samples are left out")


class LabelSmoothing(MethodBase):
    """Label smoothing, of either sign (Lukasik et al., ICML 2020; Wei et al., ICML 2022)."""

    implemented_by = "label_smoothing:LabelSmoothing"
    steady = True

    kind: Literal["label-smoothing"]
    rate: float = Field(
        0.1,
        gt=-1,
        lt=1,
        description="share of the label that all classes get alike; negative: that they give up",
    )


class Bootstrap(MethodBase):
    """Bootstrap (Reed et al., 2014), soft: the target is part label, part prediction."""

    implemented_by = "bootstrap:Bootstrap"
    steady = True

    kind: Literal["bootstrap"]
    label_share: float = Field(0.95, ge=0, le=1, description="of the target; 1: cross-entropy")


class Gce(MethodBase):
    """GCE (Zhang & Sabuncu, NeurIPS 2018): generalised cross-entropy, truncated with ``threshold``."""

    implemented_by = "gce:Gce"

    kind: Literal["gce"]
    q: float = Field(0.7, gt=0, le=1, description="towards 0: cross-entropy; 1: mean absolute error")
    threshold: Open | None = Field(
        None, description="samples whose label is less probable than this are left out (0.5); null: none"
    )
    prune_from: Epoch = Field(40, description="the first epoch in which samples are left out")
    prune_every: Count = Field(10, description="epochs from one choice of what to leave out to the next")

    def begins(self) -> dict[str, int]:
        """Without a threshold nothing is ever left out."""
        found = super().begins()
        return found if self.threshold else {name: found[name] for name in found if name != "prune_from"}


class Forward(MethodBase):
    """Forward correction (Patrini et al., CVPR 2017): the loss is taken behind a matrix of label noise."""

    implemented_by = "forward:Forward"

    kind: Literal["forward"]
    first: First = Field(description="the run whose predictions the matrix is estimated from")
    percentile: float | None = Field(
        97.0,
        ge=0,
        le=100,
        description="a class's probabilities at or above it make no anchor; null: all may",
    )


class Sade(MethodBase):
    """SADE (Zhang et al., NeurIPS 2022): an expert each for the long-tailed, even and inverted prior."""

    implemented_by = "sade:Sade"
    head = "experts"
    steady = True

    kind: Literal["sade"]
    strength: NonNegative = Field(2.0, description="how far the third expert leans to the inverted prior")
