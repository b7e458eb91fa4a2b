"""Number formats of the forward pass, by recipe and device."""

import contextlib
from collections.abc import Callable
from contextlib import AbstractContextManager

import torch

from cmw_pipeline.config.schema import Recipe


def on_device(recipe: Recipe, device: torch.device) -> Recipe:
    """The recipe with what ``precision: auto`` leaves to the device.

    A GPU computes in TF32, in channels-last order, each iteration one CUDA graph. A CPU that multiplies
    bfloat16 does so, any other CPU computes in float32, both in channels-last order too.
    """
    if recipe.precision != "auto":
        return recipe
    if device.type == "cuda":
        ways = {"precision": "tf32", "channels_last": True, "capture": True}
    else:
        ways = {"precision": "bf16" if _multiplies_bf16() else "fp32", "channels_last": True}
    return recipe.model_copy(update=ways)


def _multiplies_bf16() -> bool:
    """Whether this CPU has instructions for products of bfloat16 (AVX-512, AMX or Arm's)."""
    return any(has for name, has in torch.cpu.get_capabilities().items() if "bf16" in name)


def forward_precision(name: str, device: torch.device) -> AbstractContextManager[None]:
    """``fp32`` and ``tf32`` compute in float32; ``bf16`` casts convolutions and products to bfloat16.

    TF32 is a setting of the process, see :func:`use_tf32`. Weights, statistics and optimiser stay float32.
    """
    if name == "bf16":
        # No cache of casts: inside a captured or recorded step it would outlive the weights it was made of.
        return torch.autocast(device.type, torch.bfloat16, cache_enabled=False)
    return contextlib.nullcontext()


def as_computed(
    recipe: Recipe, function: Callable[[torch.Tensor], torch.Tensor], images: torch.Tensor
) -> torch.Tensor:
    """What a function says of (B, C, H, W) images in the precision and the memory order of a recipe."""
    with forward_precision(recipe.precision, images.device):
        return function(ordered(recipe, images))


def ordered(recipe: Recipe, images: torch.Tensor) -> torch.Tensor:
    """(B, C, H, W) images in the memory order of a recipe; (B, D) vectors have only one."""
    order = torch.channels_last if recipe.channels_last and images.dim() == 4 else torch.contiguous_format
    return images.contiguous(memory_format=order)


def use_tf32(name: str) -> None:
    """Let convolutions and products of a GPU use TF32 where the recipe says so, and only there."""
    torch.backends.cuda.matmul.allow_tf32 = name == "tf32"
    torch.backends.cudnn.allow_tf32 = name == "tf32"
