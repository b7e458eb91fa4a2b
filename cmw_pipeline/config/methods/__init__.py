"""Options of every method, as ``params.yaml`` writes them; ``kind`` says which method."""

from typing import Annotated, get_args

from pydantic import Field

from cmw_pipeline.config.methods.base import MethodBase as MethodBase
from cmw_pipeline.config.methods.losses import (
    ClassBalanced,
    Erm,
    Focal,
    Forward,
    Gce,
    Ldam,
    NoiseTeacher,
    Sade,
)
from cmw_pipeline.config.methods.memory import ActiveBias, Elr, Lrt, Plc, Sat, Selfie
from cmw_pipeline.config.methods.mixtures import DivideMix, MCorrection
from cmw_pipeline.config.methods.self_supervised import ReedLike, SimClr
from cmw_pipeline.config.methods.tasks import (
    CmwNetPartial,
    DeepGamblers,
    DeepGamblersCmw,
    FixMatch,
    FixMatchCmw,
    Proden,
    SatSelective,
    SatSelectiveCmw,
    SelectiveNet,
    SelectiveNetCmw,
)
from cmw_pipeline.config.methods.twins import CoTeaching, Decoupling, ElrPlus, PeerLearning
from cmw_pipeline.config.methods.weighting import CmwNet, CmwNetSl, DynamicLoss, L2rw, Mcw, MwNet
from cmw_pipeline.config.methods.weighting import MetaLearned as MetaLearned
from cmw_pipeline.config.methods.weighting import Transfer as Transfer
from cmw_pipeline.config.methods.weighting import Transferred as Transferred
from cmw_pipeline.config.methods.weighting import TransferSl as TransferSl
from cmw_pipeline.config.methods.weighting import WeightNetMethod as WeightNetMethod

Method = Annotated[
    Erm
    | NoiseTeacher
    | Focal
    | ClassBalanced
    | Ldam
    | Gce
    | Forward
    | Sade
    | L2rw
    | Mcw
    | MwNet
    | CmwNet
    | CmwNetSl
    | Transfer
    | TransferSl
    | Elr
    | Sat
    | Lrt
    | Plc
    | ActiveBias
    | Selfie
    | DynamicLoss
    | CoTeaching
    | Decoupling
    | PeerLearning
    | ElrPlus
    | SimClr
    | ReedLike
    | MCorrection
    | DivideMix
    | Proden
    | CmwNetPartial
    | SelectiveNet
    | DeepGamblers
    | SatSelective
    | SelectiveNetCmw
    | DeepGamblersCmw
    | SatSelectiveCmw
    | FixMatch
    | FixMatchCmw,
    Field(discriminator="kind"),
]

KINDS: dict[str, type[MethodBase]] = {
    get_args(options.model_fields["kind"].annotation)[0]: options for options in get_args(get_args(Method)[0])
}
"""Each method's options by its kind."""
