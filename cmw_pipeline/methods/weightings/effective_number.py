"""The effective number of samples of a class (Cui et al., CVPR 2019)."""

import torch


def class_balanced_weights(counts: torch.Tensor, beta: float) -> torch.Tensor:
    """(K,) inverse effective numbers of samples, with mean 1 (Cui et al., CVPR 2019).

    a_k ∝ (1 − β) / (1 − β^n_k). A class without samples gets the weight of one with a single sample.
    """
    effective = (1 - beta ** counts.clamp(min=1).double()) / (1 - beta) if beta else torch.ones(len(counts))
    inverse = 1 / effective
    return (inverse * len(counts) / inverse.sum()).to(torch.get_default_dtype())
