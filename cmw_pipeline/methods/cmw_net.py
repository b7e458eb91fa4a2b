"""CMW-Net: a weighting function for each group of classes of similar size (Shu et al., TPAMI 2023)."""

import torch

from cmw_pipeline.config.methods.weighting import CmwNet as Options
from cmw_pipeline.meta.class_groups import group_classes
from cmw_pipeline.methods.base import Problem
from cmw_pipeline.methods.parts.weight_net_method import WeightNetMethod


class CmwNet(WeightNetMethod):
    """The weight is V(loss, group), the group that of the sample's given label."""

    def __init__(self, options: Options, problem: Problem) -> None:
        groups = group_classes(problem.class_counts.cpu().numpy(), options.groups)
        super().__init__(options, problem, torch.from_numpy(groups), options.groups)
