"""CAVL: the candidate of the largest class activation value becomes the label (Zhang et al., ICLR 2022)."""

import torch

from cmw_pipeline.methods.parts.among_candidates import AmongCandidates


class Cavl(AmongCandidates):
    """The label is the candidate of the largest z |1 − z|.

    The published code takes the maximum with zeros in the place of the other classes, so that one of those
    wins where all candidates have negative logits; here no other class can.
    """

    def renewed(self, logits: torch.Tensor, allowed: torch.Tensor) -> torch.Tensor:
        """(B, K) one-hot."""
        values = (logits * (1 - logits).abs()).masked_fill(~allowed, -torch.inf)
        return torch.zeros_like(logits).scatter_(1, values.argmax(dim=1, keepdim=True), 1)
