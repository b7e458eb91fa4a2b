"""Per-sample losses that several methods use."""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F

SampleLoss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""(logits, (B,) int64 labels) -> (B,) losses."""
COSINE_SCALE = 30.0


def cross_entropy(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """(B, K) logits; (B,) labels, or (B, K) soft ones -> (B,)."""
    return F.cross_entropy(logits, labels, reduction="none")


def several_cross_entropies(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """(B, E, K) logits of E experts, (B,) labels -> (B,) their cross-entropies, summed."""
    experts = logits.shape[1]
    each = cross_entropy(logits.flatten(0, 1), labels.repeat_interleave(experts))
    return each.view(-1, experts).sum(dim=1)


def focal(gamma: float, form: str) -> SampleLoss:
    """Cross-entropy times (1 − p)^γ, p the probability of what is right (Lin et al., ICCV 2017).

    In the form ``sigmoid`` (Cui et al., CVPR 2019) every class is a yes-or-no question and a sample's loss
    the sum over them. Their output layer starts at the bias −log(K − 1), which weight decay spares; here
    that number is subtracted from the logits, so weight decay acts on the difference from it.

    Args:
        gamma: 0 for cross-entropy.
        form: ``softmax`` or ``sigmoid``.
    """

    def softmax_form(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        hit = hits(logits, labels)
        log_miss = logits.masked_fill(hit, -torch.inf).logsumexp(dim=1) - logits.logsumexp(dim=1)
        return (gamma * log_miss).exp() * cross_entropy(logits, labels)

    def sigmoid_form(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        num_classes = logits.shape[-1]
        sign = 2 * hits(logits, labels).to(logits) - 1
        right = sign * (logits - math.log(num_classes - 1))
        return -((gamma * F.logsigmoid(-right)).exp() * F.logsigmoid(right)).sum(dim=1)

    return {"softmax": softmax_form, "sigmoid": sigmoid_form}[form]


def generalised_cross_entropy(q: float) -> SampleLoss:
    """(1 − p_y^q) / q (Zhang & Sabuncu, NeurIPS 2018), by way of log p_y, whose slope stays finite."""

    def loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return -torch.expm1(-q * cross_entropy(logits, labels)) / q

    return loss


def reverse_cross_entropy(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """RCE = A (1 − p_y) with A = −log 1e-4, what stands for the logarithm of a label's zeros."""
    return -math.log(1e-4) * generalised_cross_entropy(1.0)(logits, labels)


def normalised_cross_entropy(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """NCE = log p_y / Σ_k log p_k, in (0, 1) (Ma et al., ICML 2020)."""
    return cross_entropy(logits, labels) / -logits.log_softmax(dim=1).sum(dim=1)


def jensen_shannon(pi: float) -> SampleLoss:
    """(π KL(t|m) + (1 − π) KL(p|m)) / Z, m = π t + (1 − π) p, Z = −(1 − π) log(1 − π), t the label.

    Englesson & Azizpour, NeurIPS 2021. For π -> 0 cross-entropy, for π -> 1 towards 1 − p_y.
    """
    scale = -(1 - pi) * math.log1p(-pi)

    def loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        log_p = logits.log_softmax(dim=1)
        hit = hits(logits, labels)
        right = log_p.gather(1, labels[:, None])[:, 0]
        log_m = torch.log(pi + (1 - pi) * right.exp())
        # Beside the label m = (1 − π) p, so log(p/m) = −log(1 − π) there.
        rest = log_p.exp().masked_fill(hit, 0.0).sum(dim=1)
        of_p = right.exp() * (right - log_m) - rest * math.log1p(-pi)
        return (-pi * log_m + (1 - pi) * of_p) / scale

    return loss


def generalised_jensen_shannon(
    pi: float,
) -> Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]:
    """The same of the label and two predictions p and q, (B, K) logits each: with p = q it is that of one.

    (π KL(t|m) + (1 − π)/2 (KL(p|m) + KL(q|m))) / Z, m = π t + (1 − π)/2 (p + q).
    """
    scale = -(1 - pi) * math.log1p(-pi)

    def loss(first: torch.Tensor, second: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        log_p, log_q = first.log_softmax(dim=1), second.log_softmax(dim=1)
        log_rest = torch.logaddexp(log_p, log_q) + math.log((1 - pi) / 2)
        log_m = torch.where(hits(first, labels), (pi + log_rest.exp()).log(), log_rest)
        of_label = -log_m.gather(1, labels[:, None])[:, 0]
        of_views = sum((log.exp() * (log - log_m)).sum(dim=1) for log in (log_p, log_q))
        return (pi * of_label + (1 - pi) / 2 * of_views) / scale

    return loss


def mean_cross_entropy(logits: torch.Tensor) -> torch.Tensor:
    """(B, K) logits -> (B,) the mean over k of −log(p_k + 1e-8).

    Methods that reward a large one would have no smallest loss without the 1e-8, which the published code
    has too: of CORES (Cheng et al., ICLR 2021) and of negative label smoothing (Wei et al., ICML 2022).
    """
    return -(logits.softmax(dim=1) + 1e-8).log().mean(dim=1)


def label_smoothing(rate: float) -> SampleLoss:
    """Cross-entropy with the target (1 − r) label + r/K, r of either sign."""

    def loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return (1 - rate) * cross_entropy(logits, labels) + rate * mean_cross_entropy(logits)

    return loss


def bootstrap(label_share: float) -> SampleLoss:
    """Cross-entropy with the target b label + (1 − b) p (Reed et al., 2014), with a gradient through p."""

    def loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        log_p = logits.log_softmax(dim=1)
        entropy = -(log_p.exp() * log_p).sum(dim=1)
        return label_share * cross_entropy(logits, labels) + (1 - label_share) * entropy

    return loss


def logit_adjustment(counts: torch.Tensor, tau: float, gamma: float = 0.0) -> SampleLoss:
    """Cross-entropy of z_k / (n_max/n_k)^γ + τ log π_k, π the prior by given labels.

    The classifier is z: what suits the training prior with the shift suits an even one without it.

    Args:
        counts: (K,) training samples of each class; an empty class counts as one of one sample.
        tau: share of the log prior (Menon et al., ICLR 2021).
        gamma: of the divisor (Kini et al., NeurIPS 2021).
    """
    sizes = counts.clamp(min=1).to(torch.get_default_dtype())
    shift, scale = tau * (sizes / sizes.sum()).log(), (sizes / sizes.max()) ** gamma

    def loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return cross_entropy(logits * scale.to(logits) + shift.to(logits), labels)

    return loss


def ldam(counts: torch.Tensor, largest_margin: float = 0.5) -> SampleLoss:
    """Label-distribution-aware margins on the logits of a cosine head (Cao et al., NeurIPS 2019).

    The true class's cosine is lowered by m_y ∝ n_y^(-1/4), scaled so that the rarest class has
    ``largest_margin``; the logits are cosines times 30.

    Args:
        counts: (K,) training samples of each class.
        largest_margin: of the rarest class, as a cosine.
    """
    rarity = counts.clamp(min=1).to(torch.get_default_dtype()) ** -0.25
    margins = largest_margin * rarity / rarity.max()

    def loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        hit = hits(logits, labels)
        return cross_entropy(logits - COSINE_SCALE * margins.to(logits)[labels][:, None] * hit, labels)

    return loss


def sade(counts: torch.Tensor, strength: float = 2.0) -> SampleLoss:
    """SADE's three experts (Zhang et al., NeurIPS 2022): for the long-tailed, even and inverted prior.

    Losses of (B, 3, K) logits, summed over the experts: CE of z1, of z2 + log π, and of
    z3 + log π − strength · log π', π' the class frequencies with their order reversed.

    Args:
        counts: (K,) training samples of each class.
        strength: how far the third expert leans to the inverted prior.
    """
    prior = counts.clamp(min=1).to(torch.get_default_dtype()) / counts.sum()
    ranks = prior.argsort(stable=True)
    reversed_prior = torch.empty_like(prior).index_copy(0, ranks, prior[ranks].flip(0))
    offsets = torch.stack(
        [torch.zeros_like(prior), prior.log(), prior.log() - strength * reversed_prior.log()]
    )

    def loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return several_cross_entropies(logits + offsets.to(logits), labels)

    return loss


def hits(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """(B, K) bool: true at each label. ``F.one_hot`` looks at the values on the host."""
    return labels[:, None] == torch.arange(logits.shape[-1], device=labels.device)
