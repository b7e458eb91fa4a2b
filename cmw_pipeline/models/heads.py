"""What turns features into logits.

Each head maps (B, F) features to (B, K) logits in evaluation mode, so that predicting knows nothing of
heads; while training, some return more.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn

from cmw_pipeline.errors import ConfigError

SCALE = 30.0
"""Factor of a cosine, as LDAM and SADE have it."""
NUM_EXPERTS = 3
NUM_PROJECTED = 128
"""Size of a projection, as SimCLR has it."""
NUM_SELECTING = 512
"""Hidden units of the head that selects, as SelectiveNet has it."""


class CosineHead(nn.Module):
    """30 times the cosine between the features and a vector for each class; no bias.

    Initialised as in the code of LDAM (Cao et al., NeurIPS 2019): entries uniform in (-1, 1), then each
    class vector scaled to length 1.
    """

    def __init__(self, inputs: int, num_classes: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(F.normalize(torch.empty(num_classes, inputs).uniform_(-1, 1)))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """(B, F) -> (B, K) logits between -30 and 30."""
        return SCALE * F.linear(F.normalize(features), F.normalize(self.weight))


class ExpertHead(nn.Module):
    """A cosine head for each expert (SADE, Zhang et al., NeurIPS 2022); their mean is the prediction."""

    def __init__(self, inputs: int, num_classes: int) -> None:
        super().__init__()
        self.experts = nn.ModuleList(CosineHead(inputs, num_classes) for _ in range(NUM_EXPERTS))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """(B, 3, F) -> (B, 3, K) logits of each expert while training, else (B, K), their mean."""
        parts = zip(self.experts, features.unbind(1), strict=True)
        logits = torch.stack([expert(part) for expert, part in parts], dim=1)
        return logits if self.training else logits.mean(dim=1)


class ProjectHead(nn.Module):
    """A projection beside the prediction, for contrasts (PiCO, Wang et al., ICLR 2022).

    The projection is not normalised; that is the contrastive loss's business.
    """

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        width = linear.in_features
        self.linear = linear
        self.projection = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, NUM_PROJECTED))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """(B, F) -> (B, K + 128), logits and then projection, while training; else (B, K) logits."""
        logits: torch.Tensor = self.linear(features)
        if not self.training:
            return logits
        return F.pad(logits, (0, NUM_PROJECTED)) + F.pad(self.projection(features), (logits.shape[1], 0))


class ProbeHead(ProjectHead):
    """A projection for contrastive pre-training (SimCLR, Chen et al., ICML 2020), and a probe beside it.

    The linear probe sees detached features: it tells how good they are and changes nothing about them.
    """

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """(B, F) -> (B, K + 128), logits and then projection, while training; else (B, K) logits."""
        logits: torch.Tensor = self.linear(features.detach())
        return torch.cat([logits, self.projection(features)], dim=1) if self.training else logits


class PairHead(nn.Module):
    """A second linear head on the same features, which predicts (ABC, Lee, Shin and Kim, NeurIPS 2021)."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.linear = linear
        self.second = nn.Linear(linear.in_features, linear.out_features)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """(B, F) -> (B, 2 K) logits of the first and then of the second head while training, else (B, K)."""
        second: torch.Tensor = self.second(features)
        if not self.training:
            return second
        classes = self.linear.out_features
        return F.pad(self.linear(features), (0, classes)) + F.pad(second, (classes, 0))


class AbstainHead(nn.Module):
    """An output more: to abstain (Deep Gamblers; Self-Adaptive Training).

    Predicting, each class's logit is taken relative to abstaining's. Their softmax is the distribution over
    the classes, their logsumexp the log odds of not abstaining: nothing is lost.
    """

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.linear = nn.Linear(linear.in_features, linear.out_features + 1)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """(B, F) -> (B, K + 1) logits, abstaining last, while training; else (B, K)."""
        logits: torch.Tensor = self.linear(features)
        return logits if self.training else logits[:, :-1] - logits[:, -1:]


class SelectHead(nn.Module):
    """Beside the prediction, a selection and an auxiliary prediction (SelectiveNet).

    The logit of being selected comes from 512 hidden units, batch-normalised and divided by 10. Predicting,
    it is the logsumexp of the logits, whose softmax is the prediction's.
    """

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        width = linear.in_features
        self.linear = linear
        self.units = nn.Sequential(nn.Linear(width, NUM_SELECTING), nn.ReLU(), nn.BatchNorm1d(NUM_SELECTING))
        self.selection = nn.Linear(NUM_SELECTING, 1)
        self.auxiliary = nn.Linear(width, linear.out_features)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """(B, F) -> (B, 2 K + 1), prediction, selection, auxiliary, while training; else (B, K)."""
        logits: torch.Tensor = self.linear(features)
        selection: torch.Tensor = self.selection(self.units(features) * 0.1)
        if not self.training:
            return logits.log_softmax(dim=1) + selection
        # Side by side as sums: the look-ahead has a rule for padding, none for joining.
        classes = self.linear.out_features
        auxiliary = F.pad(self.auxiliary(features), (classes + 1, 0))
        return F.pad(logits, (0, classes + 1)) + F.pad(selection, (classes, classes)) + auxiliary


IN_PLACE: dict[str, Callable[[nn.Linear], nn.Module]] = {
    "linear": lambda linear: linear,
    "cosine": lambda linear: CosineHead(linear.in_features, linear.out_features),
    "probe": ProbeHead,
    "project": ProjectHead,
    "pair": PairHead,
    "abstain": AbstainHead,
    "select": SelectHead,
}
"""What can take the place of a linear layer, by its name."""


def replacement(head: str, linear: nn.Linear) -> nn.Module:
    """The named head, of the same sizes as the linear one it replaces.

    Raises:
        ConfigError: no head of this name takes the place of a linear one.
    """
    if head not in IN_PLACE:
        raise ConfigError(f"there is no head '{head}'", hint=f"experts, {', '.join(IN_PLACE)}")
    return IN_PLACE[head](linear)
