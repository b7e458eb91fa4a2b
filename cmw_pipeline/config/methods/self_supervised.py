"""Options of the methods that start without labels."""

from typing import Literal

from pydantic import Field

from cmw_pipeline.config.fields import Count, Epoch, Fraction, NonNegative, Positive
from cmw_pipeline.config.methods.base import First, MethodBase


class SimClr(MethodBase):
    """SimCLR (Chen et al., ICML 2020), with a linear probe beside it that the recorded accuracy is of."""

    implemented_by = "simclr:SimClr"
    head = "probe"
    divisible = False
    why_no_weighting = "its features are learned without labels"

    kind: Literal["simclr"]
    temperature: Positive = Field(0.5, description="of the contrastive loss")


class ReedLike(MethodBase):
    """REED-like (after Zhang & Yao, arXiv 2011.08145): ours, for the details of REED are unpublished.

    A SimCLR run's linear probe tells trusted labels from others by its losses; MixMatch from that run's
    weights uses the trusted ones.
    """

    implemented_by = "reed_like:ReedLike"
    starts_from_first = True
    divisible = False
    why_no_weighting = "a mixture of two densities tells which labels count"

    kind: Literal["reed-like"]
    first: First = Field(description="the SimCLR run")
    start_epoch: Epoch = Field(5, description="plain cross-entropy on all samples before this epoch")
    threshold: Fraction = Field(0.5, description="a label is trusted if its posterior is above")
    batch_size: Count = Field(64, description="trusted samples in a batch, and as many others")
    temperature: Positive = Field(0.5, description="of sharpening")
    mixup: Positive = Field(4.0, description="α of Beta(α, α)")
    lambda_u: NonNegative = Field(25.0, description="weight of the guessed labels' loss after its ramp")
    ramp_epochs: Count = Field(16, description="over which lambda_u grows from 0, after the start epoch")
    prior_penalty: NonNegative = Field(1.0, description="weight of KL(uniform, mean prediction)")
    gmm_steps: Count = Field(200, description="most EM steps of the Gaussian mixture")
    gmm_tolerance: Positive = 1.0e-2
    gmm_floor: Positive = Field(5.0e-4, description="added to the mixture's variances")
