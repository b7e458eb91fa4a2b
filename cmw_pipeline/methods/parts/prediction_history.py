"""What a network said of every sample in the last epochs, for the methods that correct labels by it."""

import torch
from torch import nn


class PredictionHistory(nn.Module):
    """(W, N, K) probabilities of the last W epochs; a sample that an epoch left out keeps older ones."""

    def __init__(self, window: int, num_samples: int, num_classes: int) -> None:
        super().__init__()
        self.predictions = nn.Buffer(torch.zeros(window, num_samples, num_classes))
        self.place = nn.Buffer(torch.zeros((), dtype=torch.int64))

    def turn_to(self, epoch: int) -> None:
        """Write from now on where the oldest epoch stands."""
        self.place.fill_(epoch % len(self.predictions))

    def record(self, rows: torch.Tensor, logits: torch.Tensor) -> None:
        """Remember the predictions of a batch: (B,) rows, (B, K) logits."""
        self.predictions[self.place.expand_as(rows), rows] = logits.softmax(dim=1)

    def test(self, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The likelihood-ratio test: (N,) probability of the label, that of the best class, and which it is.

        Before W epochs are there the sums lack terms, the same for all classes: no ratio changes.
        """
        mean = self.predictions.mean(dim=0)
        best, guess = mean.max(dim=1)
        return mean.gather(1, labels[:, None]).squeeze(1), best, guess
