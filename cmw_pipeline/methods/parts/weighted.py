"""CMW-Net's weights on the losses of another method (Shu et al., TPAMI 2023, section 7.3; details ours)."""

import torch
import torch.nn.functional as F

from cmw_pipeline.config.methods.tasks import Weighted as Options
from cmw_pipeline.meta.class_groups import group_classes
from cmw_pipeline.methods.base import Batch, Method, Problem
from cmw_pipeline.methods.parts.weight_net_method import WeightNetMethod


class Weighted(WeightNetMethod):
    """A sample's loss under ``base`` counts V(that loss, group of its given label).

    The meta loss is the cross-entropy of the prediction, whatever else the network's head gives.
    """

    def __init__(self, options: Options, problem: Problem, base: Method) -> None:
        groups = group_classes(problem.class_counts.cpu().numpy(), options.groups)
        super().__init__(options, problem, torch.from_numpy(groups), options.groups)
        self.base = base
        self.head = base.head

    def begin_epoch(self, epoch: int) -> None:
        """Of both."""
        super().begin_epoch(epoch)
        self.base.begin_epoch(epoch)

    def observe(self, logits: torch.Tensor, batch: Batch) -> None:
        """What the method remembers."""
        self.base.observe(logits, batch)

    def losses(self, logits: torch.Tensor, batch: Batch) -> torch.Tensor:
        """(B,) the method's."""
        return self.base.losses(logits, batch)

    def meta_objective(self, logits: torch.Tensor, batch: Batch) -> torch.Tensor:
        """Mean cross-entropy of the first K outputs."""
        return F.cross_entropy(logits[:, : self.num_classes], batch.labels)

    def confidence(self, logits: torch.Tensor) -> torch.Tensor:
        """(B,) the method's."""
        return self.base.confidence(logits)
