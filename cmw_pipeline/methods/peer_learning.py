"""Peer-learning: disagreements, and the other's small losses elsewhere (Sun et al., ICCV 2021)."""

from cmw_pipeline.config.methods.twins import PeerLearning as Options
from cmw_pipeline.methods.base import Problem
from cmw_pipeline.methods.parts.twin_selection import TwinSelection


class PeerLearning(TwinSelection):
    """Disagreements for both; small losses of the agreements, exchanged."""

    by_disagreement = True
    by_small_loss = True

    def __init__(self, options: Options, problem: Problem) -> None:
        super().__init__(options, problem, options.forget_rate, options.ramp_epochs, options.exponent)
