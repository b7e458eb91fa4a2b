"""Soft labels that are remembered from one epoch to the next: whole, or the largest entries alone."""

import torch
import torch.nn.functional as F
from torch import nn


class LabelMemory(nn.Module):
    """``soft_labels`` (N, K); at first the given labels."""

    def __init__(self, labels: torch.Tensor, num_classes: int) -> None:
        super().__init__()
        self.soft_labels = nn.Buffer(F.one_hot(labels, num_classes).to(torch.get_default_dtype()))

    def recall(self, rows: torch.Tensor) -> torch.Tensor:
        """(B, K) soft labels of these rows."""
        return self.soft_labels[rows]

    def remember(self, rows: torch.Tensor, soft: torch.Tensor) -> None:
        """Put (B, K) soft labels into the memory."""
        self.soft_labels[rows] = soft


class TopMemory(nn.Module):
    """``top_labels`` and ``top_classes`` (N, k), of N x k x 4 bytes; the given labels at first.

    The mass that is left belongs to the other classes in equal parts.
    """

    def __init__(self, labels: torch.Tensor, num_classes: int, top: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        others = torch.arange(min(top, num_classes), device=labels.device, dtype=torch.int16)
        self.top_classes = nn.Buffer((labels.to(torch.int16)[:, None] + others) % num_classes)
        self.top_labels = nn.Buffer((others == 0).half().repeat(len(labels), 1))

    def recall(self, rows: torch.Tensor) -> torch.Tensor:
        """(B, K) soft labels of these rows."""
        top = self.top_labels[rows].to(torch.get_default_dtype())
        left, others = (1 - top.sum(dim=1, keepdim=True)).clamp(min=0), self.num_classes - top.shape[1]
        spread = (left / max(others, 1)).expand(-1, self.num_classes)
        return spread.scatter(1, self.top_classes[rows].long(), top)

    def remember(self, rows: torch.Tensor, soft: torch.Tensor) -> None:
        """Put the largest entries of (B, K) soft labels into the memory."""
        top, classes = soft.topk(self.top_labels.shape[1], dim=1)
        self.top_labels[rows] = top.half()
        self.top_classes[rows] = classes.to(torch.int16)
