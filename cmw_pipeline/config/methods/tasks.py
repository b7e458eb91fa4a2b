"""Options of the methods for other tasks than a label a sample: partial labels, selective classification."""

from typing import ClassVar, Literal

from pydantic import Field

from cmw_pipeline.config.methods.base import (
    Count,
    Epoch,
    First,
    Fraction,
    MetaName,
    MethodBase,
    NonNegative,
)
from cmw_pipeline.config.methods.weighting import WeightNetMethod


class Proden(MethodBase):
    """PRODEN (Lv et al., ICML 2020): soft labels among the candidates follow the predictions."""

    kind: Literal["proden"]


class CmwNetPartial(WeightNetMethod):
    """CMW-Net on what another run, PRODEN's, makes of partial labels (Shu et al., TPAMI 2023, Fig. 9).

    That run's prediction among a sample's candidates becomes the given label, right or wrong.
    """

    labels_from_first: ClassVar[bool] = True

    kind: Literal["cmw-net-partial"]
    first: First = Field(description="the run on the candidate sets")
    groups: Count = 3
    start_epoch: Epoch = Field(45, description="plain cross-entropy before this epoch")
    meta_set: MetaName = Field("lowest-10", description="clean-K, lowest-K or random-min")
    meta_every: Count = Field(20, description="iterations from one meta step to the next")
    normalisation: Literal["mean", "sum"] = Field(
        "sum", description="divide the weighted loss by the batch size or by the detached sum of weights"
    )


class DeepGamblersOptions(MethodBase):
    """What the forms of Deep Gamblers share."""

    start_epoch: Epoch = Field(100, description="plain cross-entropy before this epoch")
    payoff: float = Field(2.2, gt=1, description="what a won bet pays, below the number of classes")


class DeepGamblers(DeepGamblersOptions):
    """Deep Gamblers (Ziyin et al., NeurIPS 2019): an output to abstain, trained as a bet."""

    kind: Literal["deep-gamblers"]


class SatSelectiveOptions(MethodBase):
    """What the forms of selective self-adaptive training share."""

    start_epoch: Epoch = Field(150, description="plain cross-entropy before this epoch")
    memory: Fraction = Field(0.9, description="share of the old target that stays")


class SatSelective(SatSelectiveOptions):
    """Self-adaptive training for selective classification (Huang et al., NeurIPS 2020)."""

    kind: Literal["sat-selective"]


class SelectiveNetOptions(MethodBase):
    """What the forms of SelectiveNet share."""

    coverage: float = Field(0.8, gt=0, le=1, description="the share of samples to select")
    penalty: NonNegative = Field(32.0, description="λ, of the squared shortfall of coverage")
    share: Fraction = Field(0.5, description="α, of the selective loss; the rest is the auxiliary head's")


class SelectiveNet(SelectiveNetOptions):
    """SelectiveNet (Geifman & El-Yaniv, ICML 2019): a head that selects, for one coverage."""

    kind: Literal["selective-net"]


class Weighted(WeightNetMethod):
    """What the methods of selective classification under CMW-Net's weights share; the protocol is ours."""

    groups: Count = 3
    meta_set: MetaName = Field("lowest-10", description="clean-K, lowest-K or random-min")
    normalisation: Literal["mean", "sum"] = Field(
        "sum", description="divide the weighted loss by the batch size or by the detached sum of weights"
    )


class DeepGamblersCmw(DeepGamblersOptions, Weighted):
    """Deep Gamblers with CMW-Net's weights on its losses."""

    kind: Literal["deep-gamblers-cmw-net"]


class SatSelectiveCmw(SatSelectiveOptions, Weighted):
    """Selective self-adaptive training with CMW-Net's weights on its losses."""

    kind: Literal["sat-selective-cmw-net"]


class SelectiveNetCmw(SelectiveNetOptions, Weighted):
    """SelectiveNet with CMW-Net's weights on its cross-entropies."""

    kind: Literal["selective-net-cmw-net"]


class FixMatchOptions(MethodBase):
    """What FixMatch's forms share."""

    batch_size: Count = Field(64, description="labelled images in a batch")
    ratio: Count = Field(7, description="μ, unlabelled images in a batch for each labelled one")
    threshold: Fraction = Field(0.95, description="τ, a guess counts if it is at least so probable")
    unlabelled: NonNegative = Field(1.0, description="weight of the guesses' loss; 0: labelled images only")
    strong_view: Literal["weak", "strong"] = Field(
        "strong", description="what the guess is learned on: AutoAugment, or another weak view"
    )


class FixMatch(FixMatchOptions):
    """FixMatch (Sohn et al., NeurIPS 2020)."""

    kind: Literal["fixmatch"]


class FixMatchCmw(FixMatchOptions, WeightNetMethod):
    """FixMatch with CMW-Net's weights on the guesses; the protocol is ours."""

    kind: Literal["fixmatch-cmw-net"]
    groups: Count = 3
    meta_set: MetaName = Field("labelled", description="clean-K, lowest-K, random-min or labelled")
