"""FixMatch with CMW-Net's weights on the guesses (Shu et al., TPAMI 2023, section 7.2; details ours)."""

import torch

from cmw_pipeline.config.methods.tasks import FixMatchCmw as Options
from cmw_pipeline.meta.class_groups import group_classes
from cmw_pipeline.methods.base import Batch, Networks, Problem, Stream
from cmw_pipeline.methods.parts.pseudo_labels import pass_losses, streams, together
from cmw_pipeline.methods.parts.weight_net_method import WeightNetMethod


class FixMatchCmw(WeightNetMethod):
    """A sure guess counts V(its loss, group of the guessed class); the meta-set is the labelled images.

    Classes are grouped by their numbers of labels. The paper's own protocol is not published.
    """

    def __init__(self, options: Options, problem: Problem) -> None:
        counts = torch.bincount(problem.labels[problem.labelled], minlength=problem.num_classes)
        groups = group_classes(counts.cpu().numpy(), options.groups)
        super().__init__(options, problem, torch.from_numpy(groups), options.groups)
        self.options = options
        self.streams = streams(problem, options)

    def turns(self, epoch: int) -> list[list[Stream]]:
        """Unlabelled and labelled images side by side."""
        return self.streams

    def prepare(self, batch: Batch, networks: Networks) -> Batch:
        """One batch of labelled, weak and strong views."""
        return together(batch)

    def objective(self, logits: torch.Tensor, batch: Batch) -> torch.Tensor:
        """Of (L + 2 U, K) logits."""
        found = pass_losses(logits, batch, self.options.threshold)
        if not self.active:
            return found.labelled.mean()
        weights: torch.Tensor = self.weight_net(found.guessed.detach(), self.groups[found.guesses])
        if self.normalisation == "sum":  # over the mean weight of the guesses that count
            sure = (found.sure * weights.detach()).sum() / found.sure.sum().clamp(min=1)
            weights = weights / torch.where(sure > 0, sure, 1.0)
        return found.labelled.mean() + self.options.unlabelled * (found.sure * weights * found.guessed).mean()
