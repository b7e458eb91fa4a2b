"""Options of the methods for other tasks than a label a sample: partial labels, selective classification."""

from typing import Literal

from pydantic import Field

from cmw_pipeline.config.fields import Count, Epoch, Fraction, Model, NonNegative, Positive
from cmw_pipeline.config.methods.base import MethodBase


class Proden(MethodBase):
    """PRODEN (Lv et al., ICML 2020): soft labels among the candidates follow the predictions."""

    implemented_by = "proden:Proden"
    steady = True

    kind: Literal["proden"]


class Cc(MethodBase):
    """CC (Feng et al., NeurIPS 2020): the probability that some candidate is right."""

    implemented_by = "cc:Cc"
    steady = True

    kind: Literal["cc"]


class Lws(MethodBase):
    """LWS (Wen et al., ICML 2021): sigmoid losses of candidates and of the others, leveraged."""

    implemented_by = "lws:Lws"
    steady = True

    kind: Literal["lws"]
    beta: NonNegative = Field(1.0, description="weight of the classes that are no candidates")


class Cavl(MethodBase):
    """CAVL (Zhang et al., ICLR 2022): the candidate of the largest class activation value is the label."""

    implemented_by = "cavl:Cavl"
    steady = True

    kind: Literal["cavl"]


class Pico(MethodBase):
    """PiCO (Wang et al., ICLR 2022): contrast of projections; the nearest prototype tells the candidate."""

    implemented_by = "pico:Pico"
    head = "project"
    needs_teacher = True
    divisible = False
    steady = True

    kind: Literal["pico"]
    start_epoch: Epoch = Field(
        1, description="before, soft labels stand still and a projection finds its own key only"
    )
    contrast: NonNegative = Field(0.5, description="λ, weight of the contrast")
    temperature: Positive = Field(0.07, description="what cosines are divided by")
    queue: Count = Field(8192, description="keys of the last steps that a projection is compared with")
    prototype_memory: Fraction = Field(0.99, description="share of a prototype that stays at each sample")
    memory_start: Fraction = Field(
        0.95, description="φ, share of a soft label that stays, in the first epoch"
    )
    memory_end: Fraction = Field(0.8, description="φ in the end")
    ramp_epochs: Count = Field(800, description="over which φ goes from the one to the other; the whole run")
    strong_view: Literal["weak", "strong"] = Field(
        "strong", description="what the teacher sees: AutoAugment, or another weak view"
    )


class DeepGamblers(MethodBase):
    """Deep Gamblers (Ziyin et al., NeurIPS 2019): an output to abstain, trained as a bet."""

    implemented_by = "deep_gamblers:DeepGamblers"
    head = "abstain"
    steady = True

    kind: Literal["deep-gamblers"]
    start_epoch: Epoch = Field(100, description="plain cross-entropy before this epoch")
    payoff: float = Field(2.2, gt=1, description="what a won bet pays, below the number of classes")


class SatSelective(MethodBase):
    """SAT for selective classification (Huang et al., NeurIPS 2020)."""

    implemented_by = "sat_selective:SatSelective"
    head = "abstain"
    steady = True

    kind: Literal["sat-selective"]
    start_epoch: Epoch = Field(150, description="plain cross-entropy before this epoch")
    memory: Fraction = Field(0.9, description="share of the old target that stays")
    entropy: NonNegative = Field(
        0.0, description="weight of the entropy of the K classes (Feng et al., ICLR 2023); 0: none"
    )


class SelectiveNet(MethodBase):
    """SelectiveNet (Geifman & El-Yaniv, ICML 2019): a head that selects, for one coverage."""

    implemented_by = "selective_net:SelectiveNet"
    head = "select"
    steady = True

    kind: Literal["selective-net"]
    coverage: float = Field(0.8, gt=0, le=1, description="the share of samples to select")
    penalty: NonNegative = Field(32.0, description="λ, of the squared shortfall of coverage")
    share: Fraction = Field(0.5, description="α, of the selective loss; the rest is the auxiliary head's")


class _Guessing(Model):
    """What the methods share that guess labels on weak views."""

    batch_size: Count = Field(64, description="labelled images in a batch")
    ratio: Count = Field(7, description="μ, unlabelled images in a batch for each labelled one")
    unlabelled: NonNegative = Field(1.0, description="weight of the guesses' loss; 0: labelled images only")
    strong_view: Literal["weak", "strong"] = Field(
        "strong", description="what the guess is learned on: AutoAugment, or another weak view"
    )


class FixMatch(_Guessing, MethodBase):
    """FixMatch (Sohn et al., NeurIPS 2020): few labels, and pseudo-labels of confident predictions."""

    implemented_by = "fixmatch:FixMatch"
    divisible = False
    steady = True

    kind: Literal["fixmatch"]
    threshold: Fraction = Field(0.95, description="τ, a guess counts if it is at least so probable")


class Abc(_Guessing, MethodBase):
    """ABC on FixMatch (Lee, Shin & Kim, NeurIPS 2021): a second head learns from a balanced draw."""

    implemented_by = "abc:Abc"
    head = "pair"
    divisible = False
    steady = True

    kind: Literal["abc"]
    threshold: Fraction = Field(0.95, description="τ, a guess counts if it is at least so probable")
    ramp_epochs: Count = Field(
        4400,
        description="over which the draw of guesses goes from all of them to a balanced one; the whole run",
    )


class FlexMatch(_Guessing, MethodBase):
    """FlexMatch (Zhang et al., NeurIPS 2021): FixMatch, with lower thresholds for classes guessed seldom."""

    implemented_by = "flexmatch:FlexMatch"
    divisible = False
    steady = True

    kind: Literal["flexmatch"]
    threshold: Fraction = Field(0.95, description="τ, of the class that is guessed most often")


class FreeMatch(_Guessing, MethodBase):
    """FreeMatch (Wang et al., ICLR 2023): FixMatch, with thresholds that follow the mean confidence."""

    implemented_by = "freematch:FreeMatch"
    divisible = False
    steady = True

    kind: Literal["freematch"]
    fairness: NonNegative = Field(0.001, description="weight of the fairness of the predictions")


class SoftMatch(_Guessing, MethodBase):
    """SoftMatch (Chen et al., ICLR 2023): FixMatch, with a soft weight in the place of the threshold."""

    implemented_by = "softmatch:SoftMatch"
    divisible = False
    steady = True

    kind: Literal["softmatch"]
    steepness: NonNegative = Field(2.0, description="n, of the weight below the mean; 0: all count alike")
