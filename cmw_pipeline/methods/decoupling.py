"""Decoupling: both networks learn where they disagree (Malach and Shalev-Shwartz, NeurIPS 2017)."""

from cmw_pipeline.config.methods.twins import Decoupling as Options
from cmw_pipeline.methods.base import Problem
from cmw_pipeline.methods.parts.twin_selection import TwinSelection


class Decoupling(TwinSelection):
    """Disagreements only."""

    by_disagreement = True

    def __init__(self, options: Options, problem: Problem) -> None:
        super().__init__(options, problem, forget_rate=1.0, ramp_epochs=0, exponent=1.0)
