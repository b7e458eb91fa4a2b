"""The exact look-ahead meta-gradient, by one forward-mode product and no second-order graph.

Training on weighted samples looks one plain gradient step ahead, ŵ = w − α ∇_w L(w, Θ), and asks how the
meta loss at ŵ depends on the weighting's parameters Θ. Θ reaches ŵ only through ∂L/∂z, z the logits, so

    dL_meta(ŵ)/dΘ = −α · d/dΘ ⟨ ∂L(z, Θ)/∂z , ż ⟩,    ż = (∂z/∂w) g,    g = ∇L_meta(ŵ).

ż is one forward-mode product of the network in direction g; the derivative by Θ touches the loss alone.
Exact for every loss of the logits: weighted, normalised, mixed or with soft labels.
"""

import contextlib
from collections.abc import Callable, Sequence

import torch
from torch import nn
from torch.func import functional_call, jvp

from cmw_pipeline.runtime.rng import RngState

Tensors = dict[str, torch.Tensor]
Objective = Callable[[torch.Tensor], torch.Tensor]
"""(B, K) logits -> scalar loss."""


def lookahead_gradient(
    model: nn.Module,
    images: torch.Tensor,
    logits: torch.Tensor,
    objective: Objective,
    meta_images: torch.Tensor,
    meta_objective: Objective,
    lr: float,
    theta: Sequence[torch.Tensor],
    draws: RngState | None = None,
) -> list[torch.Tensor]:
    """Gradient of the meta loss after one virtual step, with respect to the weighting's parameters.

    The look-ahead leaves the model untouched: its weights, its batch-norm statistics, its gradients.

    Args:
        model: any module from images to logits, in training mode.
        images: (B, C, H, W) the training batch.
        logits: (B, K) ``model(images)`` with its graph; it is kept, so that the real step can use it.
        objective: the training loss of the logits, differentiable in the logits and in ``theta``.
        meta_images: (M, C, H, W) the meta batch.
        meta_objective: the meta loss of its logits.
        lr: α, the rate of the virtual step.
        theta: parameters of the weighting.
        draws: the generators' state before ``logits`` were computed, so that dropout draws the same
            masks again; None where the model draws nothing.

    Returns:
        One gradient for each entry of ``theta``.
    """
    weights: Tensors = {name: p for name, p in model.named_parameters() if p.requires_grad}
    gradient = torch.autograd.grad(
        objective(logits), list(weights.values()), retain_graph=True, allow_unused=True
    )
    ahead = {
        name: (p if g is None else p - lr * g).detach().requires_grad_()
        for (name, p), g in zip(weights.items(), gradient, strict=True)
    }
    meta_loss = meta_objective(functional_call(model, (ahead, _buffers(model)), (meta_images,)))
    found = torch.autograd.grad(meta_loss, list(ahead.values()), allow_unused=True)
    direction = {
        name: torch.zeros_like(ahead[name]) if g is None else g for name, g in zip(ahead, found, strict=True)
    }
    tangent = logits_tangent(model, images, weights, direction, draws)
    z = logits.detach().requires_grad_()
    (slope,) = torch.autograd.grad(objective(z), z, create_graph=True)
    return list(torch.autograd.grad(-lr * (slope * tangent).sum(), list(theta)))


def logits_tangent(
    model: nn.Module,
    images: torch.Tensor,
    weights: Tensors,
    direction: Tensors,
    draws: RngState | None = None,
) -> torch.Tensor:
    """ż = (∂z/∂w) · direction, (B, K): how the logits move when the weights move that way."""

    def network(moved: Tensors) -> torch.Tensor:
        logits: torch.Tensor = functional_call(model, (moved, _buffers(model)), (images,))
        return logits

    plain = {name: p.detach() for name, p in weights.items()}
    with draws.replayed(images.device) if draws else contextlib.nullcontext():
        tangent: torch.Tensor = jvp(network, (plain,), (direction,))[1]
    return tangent


def _buffers(model: nn.Module) -> Tensors:
    """Copies, so that batch-norm statistics move once a step: in the real forward pass."""
    return {name: buffer.clone() for name, buffer in model.named_buffers()}
