"""The network from (sample loss, class group) to sample weight."""

import torch
from torch import nn


class WeightNet(nn.Module):
    """Linear 1 -> H, ReLU, then one sigmoid head a class group; 503 parameters for H = 100 and 3 groups.

    Input is the raw loss, unscaled. In autocast it computes in float32, too: bfloat16 has 26 values for 100
    weights. Source: Shu et al., NeurIPS 2019 (one group) and TPAMI 2023.
    ``loss_max`` remembers the largest finite loss seen in training mode: beyond it the function is a guess.
    ``level``, (K,), multiplies each group's weights outside training mode, where there is one
    (:class:`cmw_pipeline.meta.levels.BoundedLevels`).
    """

    level: torch.Tensor | None

    def __init__(self, hidden: int, num_groups: int, levels: bool = False) -> None:
        super().__init__()
        self.trunk = nn.Linear(1, hidden)
        self.heads = nn.Linear(hidden, num_groups)
        self.loss_max = nn.Buffer(torch.zeros(()))
        self.level = nn.Buffer(torch.ones(num_groups)) if levels else None

    @property
    def num_groups(self) -> int:
        """K, the number of heads."""
        return self.heads.out_features

    def forward(self, loss_B: torch.Tensor, group_B: torch.Tensor) -> torch.Tensor:
        """(B,) losses and (B,) int64 groups -> (B,) weights in (0, 1), times the groups' levels if any."""
        loss_B = loss_B.to(self.trunk.weight.dtype)
        if self.training:
            largest = loss_B.detach().nan_to_num(0.0, posinf=0.0).max()
            torch.maximum(self.loss_max, largest, out=self.loss_max)
        with torch.autocast(loss_B.device.type, enabled=False):
            weight_BK = torch.sigmoid(self.heads(torch.relu(self.trunk(loss_B.unsqueeze(1)))))
        weight_B = weight_BK.gather(1, group_B.unsqueeze(1)).squeeze(1)
        return weight_B if self.training or self.level is None else weight_B * self.level[group_B]
