"""Methods by their kind."""

from typing import Any

import torch

from cmw_pipeline.config.methods import Method as Options
from cmw_pipeline.methods.active_bias import ActiveBias
from cmw_pipeline.methods.base import Method, Problem
from cmw_pipeline.methods.class_balanced import ClassBalanced
from cmw_pipeline.methods.cmw_net import CmwNet
from cmw_pipeline.methods.cmw_net_sl import CmwNetSl
from cmw_pipeline.methods.co_teaching import CoTeaching
from cmw_pipeline.methods.decoupling import Decoupling
from cmw_pipeline.methods.deep_gamblers import DeepGamblers, DeepGamblersCmw
from cmw_pipeline.methods.dividemix import DivideMix
from cmw_pipeline.methods.dynamic_loss import DynamicLoss
from cmw_pipeline.methods.elr import Elr
from cmw_pipeline.methods.elr_plus import ElrPlus
from cmw_pipeline.methods.erm import Erm
from cmw_pipeline.methods.fixmatch import FixMatch
from cmw_pipeline.methods.fixmatch_cmw import FixMatchCmw
from cmw_pipeline.methods.focal import Focal
from cmw_pipeline.methods.forward import Forward
from cmw_pipeline.methods.gce import Gce
from cmw_pipeline.methods.l2rw import L2rw
from cmw_pipeline.methods.ldam import Ldam
from cmw_pipeline.methods.lrt import Lrt
from cmw_pipeline.methods.m_correction import MCorrection
from cmw_pipeline.methods.mcw import Mcw
from cmw_pipeline.methods.mw_net import MwNet
from cmw_pipeline.methods.noise_teacher import NoiseTeacher
from cmw_pipeline.methods.peer_learning import PeerLearning
from cmw_pipeline.methods.plc import Plc
from cmw_pipeline.methods.proden import Proden
from cmw_pipeline.methods.reed_like import ReedLike
from cmw_pipeline.methods.sade import Sade
from cmw_pipeline.methods.sat import Sat
from cmw_pipeline.methods.sat_selective import SatSelective, SatSelectiveCmw
from cmw_pipeline.methods.selective_net import SelectiveNet, SelectiveNetCmw
from cmw_pipeline.methods.selfie import Selfie
from cmw_pipeline.methods.simclr import SimClr
from cmw_pipeline.methods.transfer import Transfer
from cmw_pipeline.methods.transfer_sl import TransferSl

METHODS: dict[str, Any] = {
    "erm": Erm,
    "noise-teacher": NoiseTeacher,
    "focal": Focal,
    "class-balanced": ClassBalanced,
    "ldam": Ldam,
    "gce": Gce,
    "forward": Forward,
    "sade": Sade,
    "l2rw": L2rw,
    "mcw": Mcw,
    "mw-net": MwNet,
    "cmw-net": CmwNet,
    "cmw-net-sl": CmwNetSl,
    "transfer": Transfer,
    "transfer-sl": TransferSl,
    "m-correction": MCorrection,
    "dividemix": DivideMix,
    "co-teaching": CoTeaching,
    "decoupling": Decoupling,
    "elr": Elr,
    "elr-plus": ElrPlus,
    "lrt": Lrt,
    "peer-learning": PeerLearning,
    "plc": Plc,
    "sat": Sat,
    "active-bias": ActiveBias,
    "selfie": Selfie,
    "dynamic-loss": DynamicLoss,
    "simclr": SimClr,
    "reed-like": ReedLike,
    "proden": Proden,
    "cmw-net-partial": CmwNet,
    "selective-net": SelectiveNet,
    "deep-gamblers": DeepGamblers,
    "sat-selective": SatSelective,
    "selective-net-cmw-net": SelectiveNetCmw,
    "deep-gamblers-cmw-net": DeepGamblersCmw,
    "sat-selective-cmw-net": SatSelectiveCmw,
    "fixmatch": FixMatch,
    "fixmatch-cmw-net": FixMatchCmw,
}


def build(options: Options, problem: Problem, seed: int) -> Method:
    """A method ready to train; equal seeds give equal weight nets.

    Args:
        options: the method's entry in the parameters, as it is in this cell.
        problem: the training set by its given labels.
        seed: of the method's own initialisation.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        method: Method = METHODS[options.kind](options, problem)
        return method
