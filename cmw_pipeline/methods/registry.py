"""Methods by their kind."""

import torch

from cmw_pipeline.config.schema import CmwNet as CmwNetOptions
from cmw_pipeline.config.schema import Method as Options
from cmw_pipeline.config.schema import MwNet as MwNetOptions
from cmw_pipeline.config.schema import Transfer as TransferOptions
from cmw_pipeline.meta.weighting import WeightingFunction
from cmw_pipeline.methods.base import Method, Problem
from cmw_pipeline.methods.cmw_net import CmwNet
from cmw_pipeline.methods.erm import Erm
from cmw_pipeline.methods.mw_net import MwNet
from cmw_pipeline.methods.transfer import Transfer


def build(
    options: Options, problem: Problem, seed: int, weighting: WeightingFunction | None = None
) -> Method:
    """A method ready to train; equal seeds give equal weight nets.

    Args:
        options: the method's entry in the parameters.
        problem: the training set by its given labels.
        seed: of the method's own initialisation.
        weighting: the frozen function, for ``transfer``.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if isinstance(options, MwNetOptions):
            return MwNet(options, problem)
        if isinstance(options, CmwNetOptions):
            return CmwNet(options, problem)
        if isinstance(options, TransferOptions):
            assert weighting is not None, "a transfer needs the function it transfers"
            return Transfer(options, problem, weighting)
        return Erm(options, problem)
