"""The trace of an operator with a confidence interval."""

from dataclasses import dataclass
from math import ceil, isfinite, sqrt
from statistics import NormalDist, fmean, stdev

import torch

from thalweg.curvature.lanczos import Krylov
from thalweg.curvature.operators import Operator

PILOT = 10  # probes that the spread is estimated from


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
    """Estimate the trace: exactly within a Krylov basis, by sampling (Hutchinson) outside it.

    The large eigenvalues, which make plain Hutchinson noisy, are in the basis. `precision` limits
    the probes to those that an interval of that relative half width needs, by the spread of the
    first ten. The interval then uses their spread alone (Stein 1945): to stop when the
    interval looks narrow would make it miss the truth more often than it says.

    Source: Meyer et al. 2021 (Hutch++), with the Lanczos basis as the sketch.
    """
    inside = float(krylov.values.sum())
    if krylov.steps == krylov.size:
        return Trace(value=inside, low=inside, high=inside, confidence=confidence, probes=0)
    generator = torch.Generator().manual_seed(seed)
    pilot = min(PILOT, probes) if precision else probes
    samples = [_sample_outside(operator, krylov, generator) for _ in range(pilot)]
    spread = stdev(samples) if pilot > 1 else float("inf")
    reach = student_quantile((1 + confidence) / 2, max(pilot - 1, 1)) * spread
    needed = pilot
    if precision and isfinite(reach):
        needed = ceil((reach / max(precision * abs(inside + fmean(samples)), 1e-300)) ** 2)
    while len(samples) < min(needed, probes):
        samples.append(_sample_outside(operator, krylov, generator))
    value, half = inside + fmean(samples), reach / sqrt(len(samples))
    return Trace(
        value=value,
        low=value - half,
        high=value + half,
        confidence=confidence,
        probes=len(samples),
    )


def _sample_outside(operator: Operator, krylov: Krylov, generator: torch.Generator) -> float:
    """Draw a random probe orthogonal to the basis; its expected product is the trace there."""
    probe = torch.randn(krylov.size, generator=generator, dtype=torch.float64).sign()
    probe = probe.to(operator.device)
    probe = torch.addmv(probe, krylov.basis.T, krylov.basis @ probe, alpha=-1.0)
    return float(probe @ operator(probe))


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
