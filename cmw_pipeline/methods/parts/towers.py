"""Losses of several networks at once."""

import torch


def tower_losses(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """(B, T) cross-entropy of each network.

    Args:
        logits: (B, T, K).
        labels: (B,) int64, or soft ones of all networks (B, K) or of each (B, T, K).
    """
    log_p = logits.log_softmax(dim=2)
    if not labels.is_floating_point():
        picked = labels[:, None, None].expand(-1, logits.shape[1], 1)
        return -log_p.gather(2, picked).squeeze(2)
    return -((labels if labels.dim() == 3 else labels[:, None]) * log_p).sum(dim=2)
