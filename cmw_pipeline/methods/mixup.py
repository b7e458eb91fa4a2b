"""Mixup (Zhang et al., ICLR 2018): a factor and a partner for each sample of a batch, drawn on the device."""

import torch


def draw_lambda(alpha: float, device: torch.device) -> torch.Tensor:
    """Scalar max(λ, 1 − λ) with λ ~ Beta(α, α), drawn on the device; 1 for α = 0."""
    if alpha == 0:
        return torch.ones((), device=device)
    lam = torch._sample_dirichlet(torch.full((2,), alpha, device=device))[0]
    return torch.maximum(lam, 1 - lam)


def draw_partners(size: int, device: torch.device) -> torch.Tensor:
    """(B,) int64: a random permutation; whom each sample is mixed with."""
    return torch.rand(size, device=device).argsort()


def mix(values: torch.Tensor, partners: torch.Tensor, lam: torch.Tensor) -> torch.Tensor:
    """λ x_i + (1 − λ) x_π(i), of images or soft labels."""
    return lam * values + (1 - lam) * values[partners]
