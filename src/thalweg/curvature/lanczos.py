"""Lanczos: extreme eigenpairs of a symmetric operator from one Krylov basis, with error bounds."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from thalweg.curvature.errors import NotTwiceDifferentiableError
from thalweg.curvature.operators import Operator

Array = NDArray[np.float64]
CHECK_EVERY = 3  # products between checks of convergence, which cost an m × m eigh each
REPEAT_BELOW = 0.7  # of a vector's norm: if less remains, Gram–Schmidt is repeated
ASYMMETRIC = 1e-2  # of the largest coefficient: far more than float32 rounds, ~1e-6
SMALLEST = 1e-100  # smaller products have no digits left to be symmetric in
VANISHED = 1e-10  # of the largest coefficient so far: below it the subspace is invariant


@dataclass(frozen=True, slots=True, kw_only=True)
class Krylov:
    """The result of a Lanczos run: an orthonormal basis, and the operator in it."""

    basis: Float[Tensor, "steps weights"]  # float64, orthonormal rows
    values: Array  # Ritz values, ascending
    coordinates: Array  # their vectors in the basis, as columns
    residuals: Array  # ‖Hv − θv‖: some eigenvalue lies within this of the Ritz value
    errors: Array  # of the Ritz values; quadratic in the residual if the next value is far
    rounding: float  # error of float32 products, measured as loss of symmetry
    size: int
    converged: bool

    @property
    def steps(self) -> int:
        return len(self.values)

    @property
    def radius(self) -> float:
        """The largest |λ|."""
        return float(np.abs(self.values).max())

    def vectors(self, index: Any) -> Float[Tensor, "index weights"]:
        """Ritz vectors as rows, of unit norm; `index` as for `values`."""
        coordinates = torch.from_numpy(np.ascontiguousarray(self.coordinates[:, index].T))
        return coordinates.to(self.basis.device) @ self.basis


def lanczos(
    operator: Operator,
    *,
    top: int = 5,
    bottom: int = 1,
    tolerance: float = 1e-4,
    min_steps: int = 0,
    max_steps: int = 300,
    start: Float[Tensor, " weights"] | None = None,
    seed: int = 0,
) -> Krylov:
    """Build a Krylov basis for the `top` largest and `bottom` smallest eigenvalues.

    It stops when the error of each is below `tolerance` of |λ|max (or after `max_steps` products;
    see `converged`), by the residual: |λ − θ| ≤ ‖Hv − θv‖, and ≤ ‖Hv − θv‖² / gap if the
    neighbours are further away. Every vector is orthogonalised against the whole basis: without
    ghost eigenvalues one run serves the eigenvalues, the trace and the density.

    `start` warm-starts it, for example with the last eigenvector.
    Source: Golub and Van Loan, Matrix Computations, 10.3; Parlett 1998, 13.2 and 11.7.
    """
    run = _Run(operator, min(max_steps, operator.size), seed=seed)
    run.begin(start)
    while not run.is_full:
        run.extend()
        is_due = run.steps >= max(min_steps, top + bottom) and run.steps % CHECK_EVERY == 0
        if is_due and run.has_converged(top, bottom, tolerance):
            break
    converged = run.has_converged(top, bottom, tolerance)
    return run.result(converged)


@dataclass(slots=True)
class _Run:
    operator: Operator
    capacity: int
    seed: int
    steps: int = 0
    basis: Tensor = field(init=False)
    next_vector: Tensor = field(init=False)
    generator: torch.Generator = field(init=False)
    diagonal: list[float] = field(default_factory=list)
    off_diagonal: list[float] = field(default_factory=list)  # β; the last is not in T
    rounding: float = 0.0

    def begin(self, start: Tensor | None) -> None:
        device, size = self.operator.device, self.operator.size
        self.basis = torch.empty(self.capacity, size, dtype=torch.float64, device=device)
        self.generator = torch.Generator().manual_seed(self.seed)
        vector = self.random() if start is None else start.double()
        self.next_vector = vector / vector.norm()

    def random(self) -> Tensor:
        vector = torch.randn(self.operator.size, generator=self.generator, dtype=torch.float64)
        return vector.to(self.operator.device)

    @property
    def is_full(self) -> bool:
        return self.steps == self.capacity

    def extend(self) -> None:
        """Add a vector to the basis and a row to the tridiagonal matrix, by one product."""
        j = self.steps
        self.basis[j] = self.next_vector
        product = self.operator(self.basis[j])
        basis = self.basis[: j + 1]
        components = basis @ product
        if j > 1:  # in exact arithmetic only the last two are not zero
            self.check_symmetry(float(components[: j - 1].norm()))
        self.diagonal.append(float(components[j]))
        norm = float(product.norm())
        rest = _subtract(product, basis, components)
        if (beta := float(rest.norm())) < REPEAT_BELOW * norm:
            rest = _subtract(rest, basis, basis @ rest)
            beta = float(rest.norm())
        self.steps = j + 1
        scale = max([*map(abs, self.diagonal), *self.off_diagonal, 1e-300])
        if beta > VANISHED * scale:
            self.next_vector = rest / beta
        else:
            beta, self.next_vector = 0.0, self.random_orthogonal()
        self.off_diagonal.append(beta)

    def check_symmetry(self, difference: float) -> None:
        self.rounding = max(self.rounding, difference)
        if difference > SMALLEST + ASYMMETRIC * max([*map(abs, self.diagonal), *self.off_diagonal]):
            raise NotTwiceDifferentiableError(
                "the matrix of second derivatives is not symmetric",
                seen=f"uᵀHv and vᵀHu differ by {difference:.1e} for unit vectors u and v",
                fix="some operation, such as a custom autograd.Function that computes its "
                "backward outside torch, hides how its gradient depends on the weights: write "
                "that backward with differentiable torch operations",
            )

    def random_orthogonal(self) -> Tensor:
        """A random direction orthogonal to an exhausted basis, to find repeated eigenvalues."""
        basis, vector = self.basis[: self.steps], self.random()
        for _ in range(3):
            vector = _subtract(vector, basis, basis @ vector)
            vector = vector / vector.norm().clamp_min(1e-300)
        return vector

    def ritz(self) -> tuple[Array, Array, Array]:
        tridiagonal = np.diag(self.diagonal)
        off_diagonal = self.off_diagonal[: self.steps - 1]
        tridiagonal += np.diag(off_diagonal, 1) + np.diag(off_diagonal, -1)
        values, coordinates = np.linalg.eigh(tridiagonal)
        beta = 0.0 if self.steps == self.operator.size else self.off_diagonal[-1]
        return values, coordinates, beta * np.abs(coordinates[-1])

    def has_converged(self, top: int, bottom: int, tolerance: float) -> bool:
        values, _, residuals = self.ritz()
        if self.steps == self.operator.size:
            return True
        if self.steps < top + bottom:
            return False
        errors = _errors(values, residuals)
        is_accurate = errors <= max(tolerance * float(np.abs(values).max()), self.rounding)
        extremes = [*range(bottom), *range(self.steps - top, self.steps)]
        return bool(is_accurate[extremes].all())

    def result(self, converged: bool) -> Krylov:
        values, coordinates, residuals = self.ritz()
        epsilon = torch.finfo(self.operator.dtype).eps
        rounding = self.rounding + 2 * epsilon * float(np.abs(values).max())
        return Krylov(
            basis=self.basis[: self.steps],
            values=values,
            coordinates=coordinates,
            residuals=residuals + rounding,
            errors=_errors(values, residuals) + rounding,
            rounding=rounding,
            size=self.operator.size,
            converged=converged,
        )


def _subtract(vector: Tensor, basis: Tensor, components: Tensor) -> Tensor:
    return torch.addmv(vector, basis.T, components, alpha=-1.0)


def _errors(values: Array, residuals: Array) -> Array:
    """min(r, r²/gap), Weyl's and Temple's bounds, with the gap to the nearest Ritz interval."""
    if len(values) == 1:
        return residuals
    reach = np.diff(values) - np.maximum(residuals[1:], residuals[:-1])
    gap = np.minimum(np.append(np.inf, reach), np.append(reach, np.inf))
    squared = np.full_like(residuals, np.inf)
    np.divide(residuals**2, gap, out=squared, where=gap > 0)
    return np.minimum(residuals, squared)
