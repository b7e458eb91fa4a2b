"""MW-Net: one learned function from a sample's loss to its weight (Shu et al., NeurIPS 2019)."""

import torch

from cmw_pipeline.config.methods.weighting import MwNet as Options
from cmw_pipeline.methods.base import Problem
from cmw_pipeline.methods.parts.weight_net_method import WeightNetMethod


class MwNet(WeightNetMethod):
    """The weight is V(loss), the same V for all classes."""

    def __init__(self, options: Options, problem: Problem) -> None:
        groups = torch.zeros(problem.num_classes, dtype=torch.int64)
        super().__init__(options, problem, groups, num_groups=1)
