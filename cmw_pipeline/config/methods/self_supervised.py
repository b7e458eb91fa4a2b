"""Options of the methods that start without labels."""

from typing import Literal

from pydantic import Field

from cmw_pipeline.config.methods.base import Count, Epoch, First, Fraction, MethodBase, NonNegative, Positive


class SimClr(MethodBase):
    """SimCLR (Chen et al., ICML 2020), with a linear probe beside it that the recorded accuracy is of."""

    kind: Literal["simclr"]
    temperature: Positive = Field(0.5, description="of the contrastive loss")


class ReedLike(MethodBase):
    """After REED (Zhang and Yao, arXiv 2011.08145), whose details are unpublished: ours.

    A SimCLR run's linear probe tells trusted labels from others by its losses; MixMatch from that run's
    weights uses the trusted ones.
    """

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
