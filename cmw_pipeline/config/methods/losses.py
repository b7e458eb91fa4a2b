"""Options of the methods that are a loss, a head, or both."""

from typing import Annotated, Literal

from pydantic import Field

from cmw_pipeline.config.methods.base import Count, Epoch, First, MethodBase, NonNegative, Positive

Beta = Annotated[float, Field(ge=0, lt=1, description="of the effective number of samples")]
Open = Annotated[float, Field(gt=0, lt=1)]


class NoiseTeacher(MethodBase):
    """Plain training on clean labels; its posterior makes feature-dependent noise."""

    kind: Literal["noise-teacher"]


class Erm(MethodBase):
    """Empirical risk minimisation: mean cross-entropy of the given labels."""

    kind: Literal["erm"]


class Focal(MethodBase):
    """Focal loss (Lin et al., ICCV 2017): what is already predicted with confidence counts less."""

    kind: Literal["focal"]
    gamma: NonNegative = Field(1.0, description="0: cross-entropy")
    form: Literal["softmax", "sigmoid"] = Field(
        "sigmoid",
        description="sigmoid: a yes-or-no question for each class, as Cui et al. have it",
    )


class ClassBalanced(MethodBase):
    """Class-balanced loss (Cui et al., CVPR 2019): classes weigh as their inverse effective numbers."""

    kind: Literal["class-balanced"]
    beta: Beta = 0.9999
    gamma: NonNegative = Field(0.0, description="of the focal loss under the weights; 0: cross-entropy")
    form: Literal["softmax", "sigmoid"] = "softmax"
    normalisation: Literal["mean", "sum"] = Field(
        "mean", description="divide the weighted loss by the batch size or by the sum of weights"
    )


class Ldam(MethodBase):
    """LDAM (Cao et al., NeurIPS 2019): larger margins for rare classes; LDAM-DRW with ``reweight_from``."""

    kind: Literal["ldam"]
    largest_margin: Positive = Field(0.5, description="of the rarest class, as a cosine")
    reweight_from: Epoch | None = Field(
        None, description="class-balanced weights from this epoch on (DRW); null: never"
    )
    beta: Beta = 0.9999
    normalisation: Literal["mean", "sum"] = Field(
        "sum", description="divide the weighted loss by the batch size or by the sum of weights"
    )


class Gce(MethodBase):
    """Generalised cross-entropy (Zhang & Sabuncu, NeurIPS 2018); truncated with ``threshold``."""

    kind: Literal["gce"]
    q: float = Field(0.7, gt=0, le=1, description="towards 0: cross-entropy; 1: mean absolute error")
    threshold: Open | None = Field(
        None, description="samples whose label is less probable than this are left out (0.5); null: none"
    )
    prune_from: Epoch = Field(40, description="the first epoch in which samples are left out")
    prune_every: Count = Field(10, description="epochs from one choice of what to leave out to the next")


class Forward(MethodBase):
    """Forward correction (Patrini et al., CVPR 2017): the loss is taken behind a matrix of label noise."""

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

    kind: Literal["sade"]
    strength: NonNegative = Field(2.0, description="how far the third expert leans to the inverted prior")
