"""Group levels bounded by class size: our variant of CMW-Net, for labels whose noise is not known."""

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

Sizes = npt.NDArray[np.int64]

_SMALLEST = 1e-4
"""Floor of |h|, half the logarithm of a group's bound."""


class BoundedLevels(nn.Module):
    """Learned weights whose level in a class group lies between 1 and what the group's size can justify.

    Where class sizes differ by chance only, CMW-Net's groups carry nothing, and its weights are lost to a
    direction of the meta-gradient that moves all of them alike. With v = V(ℓ, g) of a batch, m_g its mean in
    group g, m its detached mean, n̄ the mean class size and n_g that of the group's classes:

        h_g = (p/2) log(n̄/n_g),   L_g = exp(h_g + |h_g| tanh((log(m_g/m) − h_g)/|h_g|)),
        u_i = v_i L_g/m_g,        w_i = m u_i/mean(u).

    L_g lies between 1 and (n̄/n_g)^p. The common scale, m, has no gradient. Ours; not in the papers.
    """

    def __init__(self, class_counts: Sizes, class_groups: Sizes, num_groups: int, power: float) -> None:
        super().__init__()
        self.bound = nn.Buffer(torch.from_numpy(_bounds(class_counts, class_groups, num_groups, power)))

    def forward(self, weight_B: torch.Tensor, group_B: torch.Tensor) -> torch.Tensor:
        """(B,) weights V and (B,) int64 groups -> (B,) weights w, of the same mean as V."""
        return weight_B * self.factors(weight_B, group_B)[group_B]

    def factors(self, weight_B: torch.Tensor, group_B: torch.Tensor) -> torch.Tensor:
        """(K,) w_i/v_i of each group, in a batch of (B,) weights and groups; 0 < v < 1."""
        mean = weight_B.detach().mean()
        member_BK = (group_B[:, None] == torch.arange(len(self.bound), device=group_B.device)).to(weight_B)
        count_K = member_BK.sum(dim=0)
        mean_K = (member_BK * weight_B[:, None]).sum(dim=0) / count_K.clamp(min=1)
        mean_K = torch.where(count_K > 0, mean_K, mean)  # what an absent group gets counts nowhere
        bound_K = self.bound.to(weight_B)
        width_K = bound_K.abs()
        relative_K = torch.log(mean_K / mean)
        level_K = torch.exp(bound_K + width_K * torch.tanh((relative_K - bound_K) / width_K)) / mean_K
        level_B = level_K[group_B]
        return mean * level_K / (weight_B * level_B).mean()


def _bounds(counts: Sizes, groups: Sizes, num_groups: int, power: float) -> npt.NDArray[np.float32]:
    """(K,) float32 h_g, away from 0; of a group without a class as if it had the mean size."""
    members = np.bincount(groups, minlength=num_groups)
    sizes = np.bincount(groups, weights=counts, minlength=num_groups) / np.maximum(members, 1)
    ratio = np.where(sizes > 0, counts.mean() / np.maximum(sizes, 1e-12), 1.0)
    bound = power / 2 * np.log(ratio)
    return np.where(np.abs(bound) < _SMALLEST, _SMALLEST, bound).astype(np.float32)
