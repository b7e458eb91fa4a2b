"""The exact look-ahead meta-gradient, by one forward-mode product and no second-order graph.

Training on weighted samples looks one plain gradient step ahead, ŵ = w − α ∇_w L(w, Θ), and asks how the
meta loss at ŵ depends on the weighting's parameters Θ. Θ reaches ŵ only through ∂L/∂z, z the logits, so

    dL_meta(ŵ)/dΘ = −α · d/dΘ ⟨ ∂L(z, Θ)/∂z , ż ⟩,    ż = (∂z/∂w) g,    g = ∇L_meta(ŵ).

A step with momentum and weight decay, ŵ = w − α (∇_w L(w, Θ) + r), has the same derivative at another ŵ.

ż is one forward-mode product of the network in direction g; the derivative by Θ touches the loss alone.
Exact for every loss of the logits: weighted, normalised, mixed or with soft labels.
"""

from collections.abc import Callable, Sequence

import torch
from torch.func import functional_call

from cmw_pipeline.meta.tangent import Forward, copied_buffers

Objective = Callable[[torch.Tensor], torch.Tensor]
"""(B, K) logits -> scalar loss."""


def lookahead_gradient(
    forward: Forward,
    objective: Objective,
    meta_images: torch.Tensor,
    meta_objective: Objective,
    lr: float | torch.Tensor,
    theta: Sequence[torch.Tensor],
    drift: Sequence[torch.Tensor] | None = None,
) -> list[torch.Tensor]:
    """Gradient of the meta loss after one virtual step, with respect to the weighting's parameters.

    The look-ahead leaves the model untouched: its weights, its batch-norm statistics, its gradients. The
    real step can use the graph of ``forward.logits`` afterwards.

    Args:
        forward: the pass of the training batch through the model, in training mode.
        objective: the training loss of the logits, differentiable in the logits and in ``theta``.
        meta_images: (M, C, H, W) the meta batch.
        meta_objective: the meta loss of its logits.
        lr: α, the rate of the virtual step; a number or a scalar tensor.
        theta: parameters of the weighting.
        drift: r, added to the gradient of each weight; None for a plain step.

    Returns:
        One gradient for each entry of ``theta``.
    """
    model = forward.model
    weights = {name: p for name, p in model.named_parameters() if p.requires_grad}
    loss = objective(forward.logits)
    slopes = torch.autograd.grad(
        loss, list(weights.values()), retain_graph=forward.keeps_graph, materialize_grads=True
    )
    with torch.no_grad():
        slopes = slopes if drift is None else torch._foreach_add(list(slopes), list(drift))
        moved = torch._foreach_sub(list(weights.values()), torch._foreach_mul(slopes, lr))
    ahead = {name: weight.requires_grad_() for name, weight in zip(weights, moved, strict=True)}
    meta_loss = meta_objective(functional_call(model, (ahead, copied_buffers(model)), (meta_images,)))
    direction = torch.autograd.grad(meta_loss, list(ahead.values()), materialize_grads=True)
    tangent = forward.tangent(dict(zip(ahead, direction, strict=True)))
    z = forward.logits.detach().requires_grad_()
    (slope,) = torch.autograd.grad(objective(z), z, create_graph=True)
    return list(torch.autograd.grad(-lr * (slope * tangent).sum(), list(theta)))
