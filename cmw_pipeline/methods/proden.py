"""PRODEN: soft labels among the candidates follow the network's own predictions (Lv et al., ICML 2020)."""

import torch

from cmw_pipeline.methods.parts.among_candidates import AmongCandidates


class Proden(AmongCandidates):
    """The soft label is the prediction, restricted to the candidates."""

    def renewed(self, logits: torch.Tensor, allowed: torch.Tensor) -> torch.Tensor:
        """(B, K) probabilities among the candidates."""
        return logits.masked_fill(~allowed, -torch.inf).softmax(dim=1)
