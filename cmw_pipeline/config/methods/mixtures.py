"""Options of the methods that tell wrong labels by a mixture of two densities on the training losses."""

from typing import Literal

from pydantic import Field

from cmw_pipeline.config.fields import Count, Epoch, Fraction, NonNegative, Positive
from cmw_pipeline.config.methods.base import First, MethodBase


class MCorrection(MethodBase):
    """M-correction (Arazo et al., ICML 2019): mixup, and label bootstrapping by a Beta mixture."""

    implemented_by = "m_correction:MCorrection"
    divisible = False
    why_no_weighting = "a mixture of two densities tells which labels count"

    kind: Literal["m-correction"]
    bootstrap_epoch: Epoch = Field(105, description="labels are corrected from this epoch on; 0-based")
    targets: Literal["hard", "soft", "annealed"] = Field(
        "hard",
        description="what corrects a label: the predicted class (M-DYR-H), the prediction (M-DYR-S), or the "
        "prediction under a falling temperature (MD-DYR-SH)",
    )
    guided_epoch: Epoch | None = Field(
        None,
        description="images are mixed by their labels' probabilities of being right from this epoch on "
        "(MD-DYR-SH: 105, and bootstrap_epoch 110); null: never",
    )
    mixup: Positive = Field(32.0, description="α of Beta(α, α)")
    prior_penalty: NonNegative = Field(
        1.0, description="weight of KL(uniform, mean prediction) while labels are corrected"
    )
    last_temperature: Positive = Field(0.001, description="where `annealed` ends, from 1")
    temperature_epochs: Count = Field(89, description="epochs from temperature 1 to the last one")
    em_steps: Count = 10
    bins: Count = Field(100, description="of the table of posteriors")
    tail: float = Field(5.0, ge=0, lt=50, description="percent of the losses left out at either end")


class DivideMix(MethodBase):
    """DivideMix (Li et al., ICLR 2020): mixtures of losses, co-refinement; options of AugDesc and C2D.

    AugDesc (Nishi et al., CVPR 2021): ``gradient_views: strong``, batches of 128. C2D (Zheltonozhskii et al.,
    WACV 2022): ``first`` a SimCLR run, ``start_epoch: 5``, ``gmm_steps: 200``.
    """

    implemented_by = "dividemix:DivideMix"
    towers = 2
    starts_from_first = True
    divisible = False
    why_no_weighting = "its two networks tell each other which labels count, by mixtures of two densities"

    kind: Literal["dividemix"]
    start_epoch: Epoch = Field(
        10, description="epochs of warm-up by cross-entropy, both networks on all data"
    )
    first: First | None = Field(None, description="the run whose weights both networks start from")
    threshold: Fraction = Field(
        0.5,
        description="a sample is labelled if its posterior is above; moved into the range of the posteriors",
    )
    lambda_u: NonNegative = Field(25.0, description="weight of the unlabelled loss after its ramp")
    ramp_epochs: Count = Field(16, description="over which lambda_u grows from 0, after the warm-up")
    batch_size: Count = Field(64, description="labelled samples in a batch, and as many unlabelled ones")
    temperature: Positive = Field(0.5, description="of sharpening")
    mixup: Positive = Field(4.0, description="α of Beta(α, α)")
    prior_penalty: NonNegative = Field(1.0, description="weight of KL(uniform, mean prediction)")
    confidence_penalty: NonNegative = Field(
        0.0, description="weight of the negative entropy in the warm-up; 1 for asymmetric noise"
    )
    history: Count = Field(1, description="last epochs whose losses are averaged; 5 at 90 % noise")
    gmm_steps: Count = Field(10, description="most EM steps of the Gaussian mixture")
    gmm_tolerance: Positive = 1.0e-2
    gmm_floor: Positive = Field(5.0e-4, description="added to the mixture's variances")
    gradient_views: Literal["weak", "strong"] = Field(
        "weak", description="what is mixed and trained on; labels are always guessed on weak views"
    )
    warmup_view: Literal["weak", "strong"] = "weak"
    trains_on: Literal["all", "labelled"] = Field(
        "all", description="labelled: unlabelled samples serve as mixing partners only (mini WebVision)"
    )


class Rolt(MethodBase):
    """RoLT (Wei et al., arXiv 2108.11569): what is far from its class's prototype gets a soft label."""

    implemented_by = "rolt:Rolt"
    steady = True

    kind: Literal["rolt"]
    start_epoch: Epoch = Field(80, description="the given labels before this epoch")
    memory: Fraction = Field(0.6, description="share of the old mean of logits and distances that stays")
