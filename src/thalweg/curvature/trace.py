"""The trace of an operator, with an interval that covers it."""

from dataclasses import dataclass
from math import sqrt
from statistics import NormalDist, fmean, stdev

import torch

from thalweg.curvature.lanczos import Krylov
from thalweg.curvature.operators import Operator


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """Sum of all eigenvalues; `low` to `high` covers it with probability `confidence`."""

    value: float
    low: float
    high: float
    confidence: float
    probes: int


def trace(
    operator: Operator,
    krylov: Krylov,
    *,
    probes: int = 40,
    precision: float = 0.0,
    confidence: float = 0.95,
    seed: int = 1,
) -> Trace:
    """The trace: exact within a Krylov basis, sampled (Hutchinson) in what is orthogonal to it.

    The large eigenvalues, which make plain Hutchinson noisy, are in the basis. Stops early, after
    at least 10 probes, when the interval's half width is at most `precision` of the value.

    Source: Meyer et al. 2021 (Hutch++), with the basis that Lanczos leaves as the sketch.
    """
    inside = float(krylov.values.sum())
    if krylov.steps == krylov.size:
        return Trace(value=inside, low=inside, high=inside, confidence=confidence, probes=0)
    generator = torch.Generator().manual_seed(seed)
    samples: list[float] = []
    while len(samples) < probes:
        samples.append(_outside(operator, krylov, generator))
        if precision and len(samples) >= 10:
            half = _half_width(samples, confidence)
            if half <= precision * abs(inside + fmean(samples)):
                break
    value, half = inside + fmean(samples), _half_width(samples, confidence)
    return Trace(
        value=value,
        low=value - half,
        high=value + half,
        confidence=confidence,
        probes=len(samples),
    )


def _outside(operator: Operator, krylov: Krylov, generator: torch.Generator) -> float:
    probe = torch.randn(krylov.size, generator=generator, dtype=torch.float64).sign()
    probe = probe.to(operator.device)
    probe = torch.addmv(probe, krylov.basis.T, krylov.basis @ probe, alpha=-1.0)
    return float(probe @ operator(probe))


def _half_width(samples: list[float], confidence: float) -> float:
    n = len(samples)
    if n < 2:
        return float("inf")
    return student_quantile((1 + confidence) / 2, n - 1) * stdev(samples) / sqrt(n)


def student_quantile(probability: float, freedom: int) -> float:
    """Quantile of Student's t, to 3 digits from 4 degrees of freedom on.

    Source: Abramowitz and Stegun 26.7.5 (Cornish–Fisher expansion about the normal quantile).
    """
    z = NormalDist().inv_cdf(probability)
    terms = (
        z,
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return sum(term / freedom**power for power, term in enumerate(terms))
