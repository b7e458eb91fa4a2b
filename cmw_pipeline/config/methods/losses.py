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
