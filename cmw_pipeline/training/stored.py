"""A trained classifier on disk, and the network that it is."""

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn

from cmw_pipeline.config.contracts import Run, TrainRequest
from cmw_pipeline.config.datasets import FACTS
from cmw_pipeline.config.schema import Recipe
from cmw_pipeline.data.loader import Store
from cmw_pipeline.io.manifests import Stored
from cmw_pipeline.models import registry as models
from cmw_pipeline.training.evaluate import predict
from cmw_pipeline.training.precision import on_device


@dataclass(frozen=True)
class StoredRun:
    """A finished run: where its files are, and what was asked."""

    path: Path
    request: TrainRequest

    @classmethod
    def of(cls, stored: Stored) -> "StoredRun":
        """The run of an artefact of the stages ``train`` and ``transfer``."""
        return cls(stored.path, TrainRequest.model_validate(stored.manifest["params"]))

    def recipe(self, device: torch.device) -> Recipe:
        """How it computes on a device."""
        return on_device(self.request.recipe, device)

    def rebuild(self, device: torch.device) -> nn.Module:
        """The network after its last epoch, on a device."""
        facts, method = FACTS[self.request.source], self.request.method
        network, channels = self.request.recipe.network, facts.image_shape[2]
        model = models.build(network, channels, facts.num_classes, 0, method.head, method.towers).to(device)
        model.load_state_dict(self.weights())
        return model

    def logits(self, store: Store, count: int, device: torch.device) -> torch.Tensor:
        """(count, K) what it says of the first images of a store."""
        return predict(self.rebuild(device), store, count, self.recipe(device))

    def weights(self) -> dict[str, torch.Tensor]:
        """The state of its network."""
        return dict(load_file(self.path / Run.MODEL))

    def memory(self) -> dict[str, torch.Tensor]:
        """The state of its method."""
        return dict(load_file(self.path / Run.METHOD))
