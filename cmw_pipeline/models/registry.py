"""Classifiers by the name they have in a recipe."""

import torch
from torch import nn

from cmw_pipeline.config.schema import Network
from cmw_pipeline.models.preact_resnet18 import PreActResNet18
from cmw_pipeline.models.resnet32 import ResNet32
from cmw_pipeline.models.small_cnn import SmallCnn

NETWORKS = {"small-cnn": SmallCnn, "resnet32": ResNet32, "preact-resnet18": PreActResNet18}


def build(network: Network, channels: int, num_classes: int, seed: int) -> nn.Module:
    """A freshly initialised classifier; equal seeds give equal weights, the global generator is untouched."""
    width = {} if network.width is None else {"width": network.width}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return NETWORKS[network.name](channels, num_classes, **width)
