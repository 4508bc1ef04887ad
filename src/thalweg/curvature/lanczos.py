"""Extremal eigenpairs of a symmetric operator from one Krylov basis, with bounds that hold."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from thalweg.curvature.faults import NotTwiceDifferentiableError
from thalweg.curvature.operators import Operator

Array = NDArray[np.float64]
CHECK_EVERY = 3  # products between two looks at convergence: one look costs an m × m eigh
KEEPS = 0.7  # Gram–Schmidt is repeated where it took away more than √(1 − KEEPS²) of a vector
ASYMMETRIC = 1e-2  # of the largest coefficient: far more than float32 rounds, ~1e-6
SMALLEST = 1e-100  # products below it have no digits left to be symmetric in
VANISHED = 1e-10  # of the largest coefficient so far: the basis is an invariant subspace


@dataclass(frozen=True, slots=True, kw_only=True)
class Krylov:
    """What one Lanczos run learned: an orthonormal basis and the operator seen through it."""

    basis: Float[Tensor, "steps weights"]  # float64, orthonormal rows
    values: Array  # Ritz values, ascending
    coordinates: Array  # their vectors in the basis, as columns
    residuals: Array  # ‖Hv − θv‖: some eigenvalue lies within this of the Ritz value
    errors: Array  # of the Ritz values; quadratic in the residual where the next one is far
    rounding: float  # what float32 products blurred, measured as loss of symmetry
    size: int
    converged: bool

    @property
    def steps(self) -> int:
        return len(self.values)

    @property
    def radius(self) -> float:
        """The largest |λ|."""
        return float(np.abs(self.values).max())

    def vectors(self, index: Any) -> Float[Tensor, "chosen weights"]:
        """Ritz vectors as rows, of unit norm; `index` as for `values`."""
        chosen = torch.from_numpy(np.ascontiguousarray(self.coordinates[:, index].T))
        return chosen.to(self.basis.device) @ self.basis


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
    """A Krylov basis in which the `top` largest and `bottom` smallest eigenvalues are known.

    Stops when each of them is known to `tolerance` of |λ|max (or after `max_steps` products; see
    `converged`), by the residual: |λ − θ| ≤ ‖Hv − θv‖, and ≤ ‖Hv − θv‖² / gap where the
    neighbours are further than that. Every vector is orthogonalised against the whole basis: no
    ghosts, so one run serves the eigenvalues, the trace and the density alike.

    `start` warm-starts it, such as with the eigenvector of a moment ago.
    Source: Golub and Van Loan, Matrix Computations, 10.3; Parlett 1998, 13.2 and 11.7.
    """
    run = _Run(operator, min(max_steps, operator.size), seed=seed)
    run.begin(start)
    while not run.full:
        run.extend()
        due = run.steps >= max(min_steps, top + bottom) and run.steps % CHECK_EVERY == 0
        if due and run.known(top, bottom, tolerance):
            break
    converged = run.known(top, bottom, tolerance)
    return run.result(converged)


@dataclass(slots=True)
class _Run:
    operator: Operator
    capacity: int
    seed: int
    steps: int = 0
    basis: Tensor = field(init=False)
    next: Tensor = field(init=False)
    generator: torch.Generator = field(init=False)
    diagonal: list[float] = field(default_factory=list)
    beside: list[float] = field(default_factory=list)  # β after each step; the last is not in T
    rounding: float = 0.0

    def begin(self, start: Tensor | None) -> None:
        device, size = self.operator.device, self.operator.size
        self.basis = torch.empty(self.capacity, size, dtype=torch.float64, device=device)
        self.generator = torch.Generator().manual_seed(self.seed)
        vector = self.random() if start is None else start.double()
        self.next = vector / vector.norm()

    def random(self) -> Tensor:
        drawn = torch.randn(self.operator.size, generator=self.generator, dtype=torch.float64)
        return drawn.to(self.operator.device)

    @property
    def full(self) -> bool:
        return self.steps == self.capacity

    def extend(self) -> None:
        """One product: one more vector of the basis, one more row of the tridiagonal."""
        j = self.steps
        self.basis[j] = self.next
        product = self.operator(self.basis[j])
        known = self.basis[: j + 1]
        components = known @ product
        if j > 1:  # in exact arithmetic only the last two are not zero
            self.note_asymmetry(float(components[: j - 1].norm()))
        self.diagonal.append(float(components[j]))
        before = float(product.norm())
        rest = _less(product, known, components)
        if (beta := float(rest.norm())) < KEEPS * before:
            rest = _less(rest, known, known @ rest)
            beta = float(rest.norm())
        self.steps = j + 1
        scale = max([*map(abs, self.diagonal), *self.beside, 1e-300])
        if beta > VANISHED * scale:
            self.next = rest / beta
        else:
            beta, self.next = 0.0, self.elsewhere()
        self.beside.append(beta)

    def note_asymmetry(self, blur: float) -> None:
        self.rounding = max(self.rounding, blur)
        if blur > SMALLEST + ASYMMETRIC * max([*map(abs, self.diagonal), *self.beside]):
            raise NotTwiceDifferentiableError(
                "the matrix of second derivatives is not symmetric",
                seen=f"uᵀHv and vᵀHu differ by {blur:.1e} for unit vectors u and v",
                fix="some operation, such as a custom autograd.Function that computes its "
                "backward outside torch, hides how its gradient depends on the weights: write "
                "that backward with differentiable torch operations",
            )

    def elsewhere(self) -> Tensor:
        """A random direction orthogonal to an exhausted basis: finds repeated eigenvalues."""
        known, vector = self.basis[: self.steps], self.random()
        for _ in range(3):
            vector = _less(vector, known, known @ vector)
            vector = vector / vector.norm().clamp_min(1e-300)
        return vector

    def ritz(self) -> tuple[Array, Array, Array]:
        tridiagonal = np.diag(self.diagonal)
        inner = self.beside[: self.steps - 1]
        tridiagonal += np.diag(inner, 1) + np.diag(inner, -1)
        values, coordinates = np.linalg.eigh(tridiagonal)
        outward = 0.0 if self.steps == self.operator.size else self.beside[-1]
        return values, coordinates, outward * np.abs(coordinates[-1])

    def known(self, top: int, bottom: int, tolerance: float) -> bool:
        values, _, residuals = self.ritz()
        if self.steps == self.operator.size:
            return True
        if self.steps < top + bottom:
            return False
        errors = _errors(values, residuals)
        good = errors <= max(tolerance * float(np.abs(values).max()), self.rounding)
        wanted = [*range(bottom), *range(self.steps - top, self.steps)]
        return bool(good[wanted].all())

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


def _less(vector: Tensor, basis: Tensor, components: Tensor) -> Tensor:
    return torch.addmv(vector, basis.T, components, alpha=-1.0)


def _errors(values: Array, residuals: Array) -> Array:
    """min(r, r²/gap): Weyl's and Temple's bounds, the gap being to the nearest Ritz interval."""
    if len(values) == 1:
        return residuals
    reach = np.diff(values) - np.maximum(residuals[1:], residuals[:-1])
    gap = np.minimum(np.append(np.inf, reach), np.append(reach, np.inf))
    squared = np.full_like(residuals, np.inf)
    np.divide(residuals**2, gap, out=squared, where=gap > 0)
    return np.minimum(residuals, squared)
