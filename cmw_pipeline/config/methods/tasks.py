"""Options of the methods for other tasks than a label a sample: partial labels, selective classification."""

from typing import ClassVar, Literal

from pydantic import Field

from cmw_pipeline.config.methods.base import Count, Epoch, First, MetaName, MethodBase
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
