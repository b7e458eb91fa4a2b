"""Methods by their kind."""

from typing import Any

import torch

from cmw_pipeline.config.methods import Method as Options
from cmw_pipeline.methods.base import Method, Problem
from cmw_pipeline.methods.cmw_net import CmwNet
from cmw_pipeline.methods.cmw_net_sl import CmwNetSl
from cmw_pipeline.methods.erm import Erm
from cmw_pipeline.methods.l2rw import L2rw
from cmw_pipeline.methods.mcw import Mcw
from cmw_pipeline.methods.mw_net import MwNet
from cmw_pipeline.methods.transfer import Transfer

METHODS: dict[str, Any] = {
    "erm": Erm,
    "l2rw": L2rw,
    "mcw": Mcw,
    "mw-net": MwNet,
    "cmw-net": CmwNet,
    "cmw-net-sl": CmwNetSl,
    "transfer": Transfer,
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
