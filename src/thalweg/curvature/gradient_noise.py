"""Sampling error of a gradient, and the critical batch size (gradient noise scale)."""

from dataclasses import dataclass
from math import exp, log, nan, sqrt
from statistics import pvariance

import torch

from thalweg.curvature.surface import Surface
from thalweg.statistics import NORMAL_95


@dataclass(frozen=True, slots=True, kw_only=True)
class GradientNoise:
    """Norm of the mean gradient, its sampling error, and their ratio."""

    norm: float  # ‖g‖ over all samples
    standard_error: float  # √(tr Σ / samples); NaN for fewer than two groups
    scale: float | None  # tr Σ / ‖G‖²: critical batch size, in samples; None: undetermined
    low: float | None  # 95 % interval of the scale
    high: float | None
    samples: int
    groups: int

    @property
    def undetermined(self) -> bool:
        """True if the gradient is within the noise, so that the ratio has no meaning."""
        return self.scale is None


def gradient_noise(surface: Surface, *, groups: int = 32) -> GradientNoise:
    """Measure the gradient norm, its standard error and the noise scale B = tr Σ / ‖G‖².

    Batches much smaller than B waste nothing; much larger ones waste samples. Numerator and
    denominator are unbiased estimates from `groups` gradients of parts of the data; the scale is
    undetermined unless ‖G‖² exceeds its (jackknife) error: near the end of training it often is.

    Cost: one pass over the data, and memory for one gradient per group.
    Source: McCandlish et al. 2018, "An Empirical Model of Large-Batch Training", appendix A.
    """
    portions = surface.groups(groups)
    gradients = torch.stack([surface.batch_gradient(portion).double() for portion in portions])
    shares = torch.tensor([p.share for p in portions], dtype=torch.float64, device=surface.device)
    gram = gradients @ gradients.T
    count = len(portions)
    norm = float((shares @ gram @ shares).clamp_min(0).sqrt())
    signal, noise = _signal_and_noise(gram, shares) if count > 1 else (nan, nan)
    interval = _interval(gram, shares)
    return GradientNoise(
        norm=norm,
        standard_error=max(noise, 0.0) ** 0.5 if count > 1 else nan,
        scale=noise * surface.samples / signal if interval else None,
        low=interval[0] * surface.samples if interval else None,
        high=interval[1] * surface.samples if interval else None,
        samples=surface.samples,
        groups=count,
    )


def _signal_and_noise(gram: torch.Tensor, shares: torch.Tensor) -> tuple[float, float]:
    """Unbiased ‖G‖², and the variance tr Σ / n of the mean gradient, from the groups' products."""
    shares = shares / shares.sum()
    mean = float(shares @ gram @ shares)
    spread = float((shares * gram.diagonal()).sum()) - mean
    noise = spread / (len(shares) - 1)
    return mean - noise, noise


def _interval(gram: torch.Tensor, shares: torch.Tensor) -> tuple[float, float] | None:
    """95 % interval of noise / signal, by leaving groups out; None if the signal may be zero."""
    count = len(shares)
    if count < 3:  # one of two left out leaves no spread
        return None
    signal, noise = _signal_and_noise(gram, shares)
    signals, logs = [], []
    for i in range(count):
        others = torch.arange(count, device=shares.device) != i
        signal_i, noise_i = _signal_and_noise(gram[others][:, others], shares[others])
        if signal_i <= 0 or noise_i <= 0:
            return None
        signals.append(signal_i)
        logs.append(log(noise_i / signal_i))
    if signal <= 0 or noise <= 0 or signal <= NORMAL_95 * _jackknife_error(signals):
        return None
    reach = NORMAL_95 * _jackknife_error(logs)
    return noise / signal * exp(-reach), noise / signal * exp(reach)


def _jackknife_error(estimates: list[float]) -> float:
    """Standard error from the estimates that leave one group out each."""
    return sqrt((len(estimates) - 1) * pvariance(estimates))
