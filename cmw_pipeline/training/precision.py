"""Number formats of the forward pass, by recipe."""

import contextlib
from contextlib import AbstractContextManager

import torch


def forward_precision(name: str, device: torch.device) -> AbstractContextManager[None]:
    """``fp32`` and ``tf32`` compute in float32; ``bf16`` casts convolutions and products to bfloat16.

    TF32 is a setting of the process, see :func:`use_tf32`. Weights, statistics and optimiser stay float32.
    """
    if name == "bf16":
        # No cache of casts: inside a captured or recorded step it would outlive the weights it was made of.
        return torch.autocast(device.type, torch.bfloat16, cache_enabled=False)
    return contextlib.nullcontext()


def use_tf32(name: str) -> None:
    """Let convolutions and products of a GPU use TF32 where the recipe says so, and only there."""
    torch.backends.cuda.matmul.allow_tf32 = name == "tf32"
    torch.backends.cudnn.allow_tf32 = name == "tf32"
