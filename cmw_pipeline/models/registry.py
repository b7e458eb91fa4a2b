"""Classifiers by the name they have in a recipe."""

import torch
from torch import nn

from cmw_pipeline.config.schema import Network
from cmw_pipeline.errors import ConfigError
from cmw_pipeline.models.bcnn import Bcnn
from cmw_pipeline.models.blocks import Classifier
from cmw_pipeline.models.fast_cnn import FastCnn
from cmw_pipeline.models.heads import replacement
from cmw_pipeline.models.large import InceptionResNetV2, ResNet50, ResNeXt50
from cmw_pipeline.models.preact_resnet18 import PreActResNet18
from cmw_pipeline.models.preact_resnet34 import PreActResNet34
from cmw_pipeline.models.resnet32 import ResNet32, ResNet32Experts
from cmw_pipeline.models.resnet34 import ResNet34
from cmw_pipeline.models.small_cnn import SmallCnn, SmallCnnExperts
from cmw_pipeline.models.twins import Twins
from cmw_pipeline.models.vectors import Linear, Mlp
from cmw_pipeline.models.vgg16_bn import SmallVgg, Vgg16Bn
from cmw_pipeline.models.vgg19_bn import Vgg19Bn
from cmw_pipeline.models.wrn28 import Wrn28

NETWORKS: dict[str, type[Classifier]] = {
    "small-cnn": SmallCnn,
    "resnet32": ResNet32,
    "resnet34": ResNet34,
    "preact-resnet18": PreActResNet18,
    "preact-resnet34": PreActResNet34,
    "vgg16-bn": Vgg16Bn,
    "small-vgg": SmallVgg,
    "wrn28": Wrn28,
    "fast-cnn": FastCnn,
}
VECTORS: dict[str, type[Classifier]] = {"linear": Linear, "mlp": Mlp}
"""Networks for datasets of vectors, whose length D is their number of channels."""
LARGE: dict[str, type[Classifier]] = {
    "resnet50": ResNet50,
    "resnext50": ResNeXt50,
    "inception-resnet-v2": InceptionResNetV2,
    "vgg19-bn": Vgg19Bn,
    "bcnn": Bcnn,
}
"""Networks of one width, for large pictures."""
EXPERTS: dict[str, type[Classifier]] = {"small-cnn": SmallCnnExperts, "resnet32": ResNet32Experts}
"""Networks of three experts: where the trunk divides is a decision for each network."""


def build(
    network: Network, channels: int, num_classes: int, seed: int, head: str = "linear", towers: int = 1
) -> nn.Module:
    """A freshly initialised classifier; equal seeds give equal weights, the global generator is untouched.

    In evaluation mode it maps (B, C, H, W) to (B, K) logits whatever the head and the number of towers. While
    training, the head ``experts`` gives (B, 3, K), ``probe`` and ``project`` (B, K + 128), ``pair`` (B, 2 K),
    ``abstain`` (B, K + 1) and ``select`` (B, 2 K + 1), and two towers put a dimension of 2 after the batch.
    The head changes no weight of the trunk, and the first tower is the network that would stand alone.

    Args:
        network: its name and width.
        channels: of the pictures; D of vectors, which are (B, D) in place of (B, C, H, W).
        num_classes: K.
        seed: decides every weight.
        head: ``linear``, ``cosine``, ``experts``, ``probe``, ``project``, ``pair``, ``abstain``, ``select``.
        towers: 1, or 2 for :class:`~cmw_pipeline.models.twins.Twins`.

    Raises:
        ConfigError: there is no such head for this network.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        models = [_tower(network, channels, num_classes, head) for _ in range(towers)]
    return models[0] if towers == 1 else Twins(models)


def _tower(network: Network, channels: int, num_classes: int, head: str) -> Classifier:
    width = {} if network.width is None else {"width": network.width}
    if head == "experts":
        if network.name not in EXPERTS:
            hint = f"use one of {', '.join(EXPERTS)}"
            raise ConfigError(f"network '{network.name}' has no form with three experts", hint)
        return EXPERTS[network.name](channels, num_classes, **width)
    model = (NETWORKS | LARGE | VECTORS)[network.name](channels, num_classes, **width)
    linear = model.classifier
    assert isinstance(linear, nn.Linear)
    model.classifier = replacement(head, linear)
    return model
