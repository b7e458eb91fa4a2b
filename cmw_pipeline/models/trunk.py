"""A classifier without its output layer: start it from other weights, keep it as it is."""

import contextlib
from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from cmw_pipeline.errors import IntegrityError
from cmw_pipeline.models.twins import Twins

_HEAD = "classifier."


class _Still(_BatchNorm):
    """Batch normalisation by the statistics that it has, in training mode too: of a frozen trunk."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C, ...) -> (B, C, ...)."""
        training, self.training = self.training, False
        out: torch.Tensor = super().forward(x)
        self.training = training
        return out


def _still(kind: type[_BatchNorm]) -> type[_BatchNorm]:
    """The kind of batch norm, still."""
    return type(f"Still{kind.__name__}", (_Still, kind), {})


def output_layer(model: nn.Module) -> nn.Linear:
    """The linear layer from features to logits."""
    layer = model.get_submodule("classifier")
    assert isinstance(layer, nn.Linear)
    return layer


def _towers(model: nn.Module) -> list[nn.Module]:
    return list(model.towers) if isinstance(model, Twins) else [model]


def freeze_trunk(model: nn.Module) -> None:
    """Leave only the parameters of the output layer, or of each tower's, to be trained; all else is still."""
    for tower in _towers(model):
        for name, parameter in tower.named_parameters():
            parameter.requires_grad_(name.startswith(_HEAD))
        for name, module in tower.named_modules():
            if isinstance(module, _BatchNorm) and not name.startswith(_HEAD):
                module.__class__ = _still(type(module))


@contextlib.contextmanager
def features_noted(model: nn.Module, notes: MutableMapping[str, torch.Tensor]) -> Iterator[None]:
    """Meanwhile every pass of a classifier leaves its (B, F) features, detached, as ``features``."""

    def note(head: nn.Module, given: tuple[Any, ...]) -> None:
        notes["features"] = given[0].detach()

    handle = model.get_submodule("classifier").register_forward_pre_hook(note)
    try:
        yield
    finally:
        handle.remove()


class WithFeatures(nn.Module):
    """A classifier that gives (B, K + F), its logits and then the features that they were made from."""

    def __init__(self, classifier: nn.Module) -> None:
        super().__init__()
        self.classifier = classifier
        self.training = classifier.training

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) -> (B, K + F), the features detached."""
        notes: dict[str, torch.Tensor] = {}
        with features_noted(self.classifier, notes):
            logits = self.classifier(images)
        return torch.cat([logits, notes["features"].to(logits)], dim=1)


def load_trunk(model: nn.Module, tensors: Mapping[str, torch.Tensor]) -> None:
    """Copy everything but the output layer into the model, or into each of its towers.

    Args:
        model: what starts anew.
        tensors: the state dict of a network of the same kind and width.

    Raises:
        IntegrityError: a tensor of the trunk is missing or has another shape.
    """
    for tower in _towers(model):
        own = tower.state_dict()
        for name, tensor in own.items():
            if not name.startswith(_HEAD):
                if name not in tensors or tensors[name].shape != tensor.shape:
                    raise IntegrityError(f"{name}: the network to start from has another shape")
                tensor.copy_(tensors[name])
