"""Co-teaching: each network learns from the other's small losses (Han et al., NeurIPS 2018)."""

from cmw_pipeline.config.methods.twins import CoTeaching as Options
from cmw_pipeline.methods.base import Problem
from cmw_pipeline.methods.parts.twin_selection import TwinSelection


class CoTeaching(TwinSelection):
    """Small losses of the whole batch, exchanged."""

    by_small_loss = True

    def __init__(self, options: Options, problem: Problem) -> None:
        super().__init__(options, problem, options.forget_rate, options.ramp_epochs, options.exponent)
