"""Mixtures of two densities on the training losses: which labels are probably wrong."""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from cmw_pipeline.errors import NumericsError

Floats = npt.NDArray[np.float64]
_TINY = 1e-12


@dataclass(frozen=True)
class BetaMixture:
    """Two Beta densities on (0, 1)."""

    alpha: Floats
    """(2,)."""
    beta: Floats
    """(2,)."""
    share: Floats
    """(2,) sums to 1."""

    def joint(self, values: Floats) -> Floats:
        """(2, N) share times density of each component."""
        rows = []
        for a, b, share in zip(self.alpha, self.beta, self.share, strict=True):
            constant = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
            rows.append(share * np.exp(constant + (a - 1) * np.log(values) + (b - 1) * np.log1p(-values)))
        return np.stack(rows)

    def posterior(self, values: Floats) -> Floats:
        """(N,) probability of the component with the higher mean."""
        joint = self.joint(values)
        high = int((self.alpha / (self.alpha + self.beta)).argmax())
        return np.asarray(joint[high] / (joint.sum(axis=0) + _TINY))

    def table(self, bins: int) -> Floats:
        """(bins,) the posterior on an even grid over (0, 1), constant past its maximum."""
        posterior = self.posterior(np.linspace(_TINY, 1 - _TINY, bins))
        top = int(posterior.argmax())
        posterior[top:] = posterior[top]
        return posterior


def fit_beta_mixture(values: Floats, steps: int) -> BetaMixture:
    """EM with a method-of-moments M-step: a = m (m (1 − m) / v − 1), b = a (1 − m) / m.

    Args:
        values: (N,) strictly between 0 and 1.
        steps: of EM.
    """
    mixture = BetaMixture(np.array([1.0, 2.0]), np.array([2.0, 1.0]), np.array([0.5, 0.5]))
    for _ in range(steps):
        blame = np.maximum(mixture.joint(values), _TINY)
        blame /= blame.sum(axis=0)
        mass = blame.sum(axis=1)
        mean = blame @ values / mass
        variance = np.maximum((blame * (values - mean[:, None]) ** 2).sum(axis=1) / mass, 1e-8)
        alpha = np.maximum(mean * (mean * (1 - mean) / variance - 1), 1e-3)
        mixture = BetaMixture(alpha, alpha * (1 - mean) / mean, mass / mass.sum())
    return mixture


def trimmed_range(losses: torch.Tensor, tail: float) -> tuple[float, float]:
    """The loss at ``tail`` percent, plus 1e-5, and the loss at 100 − ``tail`` percent."""
    low, high = np.percentile(_finite(losses), [tail, 100 - tail])
    return float(low) + 1e-5, float(high)


def unit(losses: torch.Tensor, low: torch.Tensor, high: torch.Tensor) -> torch.Tensor:
    """Losses from [low, high] to [0.001, 0.999]; what lies outside goes to the ends."""
    return ((losses - low) / (high - low + 1e-6)).clamp(1e-3, 1 - 1e-3)


def beta_table(losses: torch.Tensor, low: float, high: float, steps: int, bins: int) -> Floats:
    """(bins,) probability of a wrong label at a loss of (bin / bins) of the way from low to high.

    Fitted to the losses inside the range only.
    """
    inside = losses[(losses >= low - 1e-5) & (losses <= high)].double()
    bounds = torch.tensor([low, high], dtype=torch.float64, device=losses.device)
    return fit_beta_mixture(_finite(unit(inside, *bounds)), steps).table(bins)


def low_loss_posterior(losses: torch.Tensor, steps: int, tolerance: float, floor: float) -> Floats:
    """(N,) probability of the component with the lower mean in a mixture of two Gaussians.

    Args:
        losses: (N,) scaled to [0, 1].
        steps: of EM, at most.
        tolerance: EM ends when its bound rises by less.
        floor: added to the variances.
    """
    from sklearn.mixture import GaussianMixture  # seconds to import, and few methods need it

    mixture = GaussianMixture(2, max_iter=steps, tol=tolerance, reg_covar=floor, random_state=0)
    column = _finite(losses)[:, None]
    posterior: Floats = mixture.fit(column).predict_proba(column)
    return posterior[:, int(mixture.means_[:, 0].argmin())]


def min_max(losses: torch.Tensor) -> torch.Tensor:
    """(N,) scaled to [0, 1]; zeros if all are equal."""
    low, high = losses.aminmax()
    return (losses - low) / (high - low).clamp(min=1e-12)


def split(posterior: Floats, threshold: float) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Rows whose posterior is above the threshold, and the others.

    As in C2D the threshold is moved inside the range of the posteriors, so that neither part is empty; if
    all are equal, both parts are everything.
    """
    inside = min(max(threshold, posterior.min() + 1e-5), posterior.max() - 1e-5)
    above = posterior > inside
    everything = np.arange(len(posterior))
    if above.all() or not above.any():
        return everything, everything
    return everything[above], everything[~above]


def _finite(values: torch.Tensor) -> Floats:
    array = values.double().cpu().numpy()
    if not np.isfinite(array).all():
        raise NumericsError(
            "a loss of the training set is not finite; no mixture can be fitted to the losses",
            "lower the recipe's learning rate",
        )
    return np.asarray(array)
