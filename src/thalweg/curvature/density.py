"""Spectral density: the distribution of the eigenvalues, from a Krylov basis."""

from dataclasses import dataclass

import numpy as np

from thalweg.curvature.lanczos import Array, Krylov

CONVERGED = 1e-3  # of |λ|max: a node with a smaller error is exactly one eigenvalue


@dataclass(frozen=True, slots=True, kw_only=True)
class Density:
    """Eigenvalues as point masses: `weights` sum to 1, and are shares of all eigenvalues."""

    nodes: Array  # ascending
    weights: Array
    size: int  # number of eigenvalues

    def shares(self, band: float) -> tuple[float, float, float]:
        """Shares of negative, zero and positive eigenvalues; zero is |λ| ≤ band."""
        negative = float(self.weights[self.nodes < -band].sum())
        positive = float(self.weights[self.nodes > band].sum())
        return negative, max(0.0, 1.0 - negative - positive), positive

    def smooth_density(self, points: Array, width: float) -> Array:
        """Density per unit of λ at the points, each mass spread into a Gaussian."""
        distance = (points[:, None] - self.nodes[None, :]) / width
        return np.exp(-(distance**2) / 2) @ self.weights / (width * np.sqrt(2 * np.pi))


def density(krylov: Krylov) -> Density:
    """Estimate the spectral density by Lanczos quadrature, with outliers counted, not sampled.

    Plain quadrature gives a node the squared overlap of the start vector with its eigenvector:
    random, ±140 % for one eigenvalue. A node that has converged to one eigenvalue has mass 1/size;
    only the rest, the bulk, shares the remaining mass in proportion to the overlaps.

    Source: Ghorbani, Krishnan and Xiao 2019; Papyan 2018 for the separation of outliers.
    """
    weights = krylov.coordinates[0] ** 2
    if krylov.steps == krylov.size:
        return Density(
            nodes=krylov.values,
            weights=np.full(krylov.size, 1 / krylov.size),
            size=krylov.size,
        )
    converged = krylov.errors <= CONVERGED * krylov.radius
    converged &= krylov.residuals <= 0.1 * _spacing(krylov.values)
    bulk = weights[~converged].sum()
    if converged.all() or bulk <= 0:
        return Density(nodes=krylov.values, weights=weights, size=krylov.size)
    counted = np.where(converged, 1 / krylov.size, 0.0)
    rest = np.where(converged, 0.0, weights) * (1 - counted.sum()) / bulk
    return Density(nodes=krylov.values, weights=counted + rest, size=krylov.size)


def _spacing(values: Array) -> Array:
    gaps = np.diff(values)
    return np.minimum(np.append(np.inf, gaps), np.append(gaps, np.inf))
