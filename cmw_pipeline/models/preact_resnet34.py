"""PreAct ResNet-34 for CIFAR, in the form of our PreAct ResNet-18.

The PLC paper (Zhang et al., ICLR 2021) names it as the teacher of its feature-dependent noise. The network
that its code calls ``preact_resnet34`` is of another kind: blocks that activate after the sum, as in
``resnet34.py``, behind a padded stem.
"""

from cmw_pipeline.models.preact_resnet18 import PreActResNet18


class PreActResNet34(PreActResNet18):
    """Stages of 3, 4, 6 and 3 blocks."""

    depth = (3, 4, 6, 3)
