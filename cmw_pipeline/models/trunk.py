"""A classifier without its output layer: start it from other weights, keep it as it is."""

import contextlib
from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any

import torch
from torch import nn

from cmw_pipeline.errors import IntegrityError
from cmw_pipeline.models.twins import Twins

_HEAD = "classifier."


def _towers(model: nn.Module) -> list[nn.Module]:
    return list(model.towers) if isinstance(model, Twins) else [model]


def freeze_trunk(model: nn.Module) -> None:
    """Leave only the parameters of the output layer, or of each tower's, to be trained."""
    for tower in _towers(model):
        for name, parameter in tower.named_parameters():
            parameter.requires_grad_(name.startswith(_HEAD))


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
