"""Least squares and ridge regression in closed form: w = (XᵀX + λI)⁻¹ Xᵀy.

The loss is Σ‖y − Wᵀx − b‖² + λ‖W‖², the bias unpenalised: scikit-learn's Ridge with alpha = λ.
If XᵀX is singular (fewer samples than features, repeated features) and λ = 0, many solutions fit
equally well: the fit is the one of smallest norm, with `rank` < features.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, Float64, Int64, Shaped
from torch import Tensor

from thalweg.classical.checks import check_classes, check_penalty, check_values, check_vectors
from thalweg.classical.cross_validation import Score, Split
from thalweg.classical.linear_map import LinearMap
from thalweg.classical.moments import Moments, moments
from thalweg.errors import DataError, UsageError


@dataclass(frozen=True, slots=True, kw_only=True)
class LeastSquaresFit:
    """A solution with its rank and condition."""

    map: LinearMap
    penalty: float
    rank: int  # of the centred inputs if the solver computes it, else the dimension
    condition: float  # largest over smallest nonzero singular value; NaN: not measured

    @property
    def singular(self) -> bool:
        """True if the data do not determine the weights: this is the smallest solution."""
        return self.rank < len(self.map.weight)


def least_squares(
    inputs: Shaped[Tensor, "sample dim"],
    targets: Float[Tensor, "sample output"],
    *,
    penalty: float = 0.0,
) -> LeastSquaresFit:
    """Fit the linear map of least squared error to data in memory, in float64.

    Without a penalty, QR and a singular value decomposition of the inputs give twice the digits of
    the normal equations. With one, it solves the normal equations of features or of samples,
    whichever are fewer. Cost: 50,000 × 3,072 with a penalty, 7 s on two cores.
    Raises: DataError for empty or non-finite data, UsageError for a negative penalty.
    """
    check_penalty(penalty)
    check_vectors(inputs, "inputs")
    check_values(targets, rows=len(inputs))
    if penalty > 0 and inputs.shape[0] > inputs.shape[1]:
        return ridge(moments(inputs, targets), penalty=penalty)
    x, y = inputs.double(), targets.double()
    center_x, center_y = x.mean(0), y.mean(0)
    x, y = x - center_x, y - center_y
    if penalty > 0:
        dual = torch.linalg.solve(_shifted_gram(x @ x.T, penalty), y)
        return _fit(x.T @ dual, center_x, center_y, penalty=penalty)
    weight, rank, condition = _smallest_solution(x, y)
    return _fit(weight, center_x, center_y, rank=rank, condition=condition)


def ridge(moments: Moments, *, penalty: float) -> LeastSquaresFit:
    """Solve ridge regression from moments alone, by Cholesky.

    Singular or nearly singular moments without a penalty are solved by eigenvalues: the smallest
    solution, cut off at the precision of the moments.
    """
    check_penalty(penalty)
    factor, failed = torch.linalg.cholesky_ex(_shifted_gram(moments.gram, penalty))
    pivots = factor.diagonal()
    cut = len(pivots) * torch.finfo(torch.float32).eps
    if failed.item() or (pivots.min() / pivots.max()).square() < (cut if penalty == 0 else 0):
        return RidgePath.of(moments).fit(penalty)
    weight = torch.cholesky_solve(moments.cross, factor)
    return _fit(weight, moments.mean_inputs, moments.mean_targets, penalty=penalty)


@dataclass(frozen=True, slots=True, kw_only=True)
class RidgePath:
    """Ridge solutions for every λ from one eigendecomposition; each costs one product more."""

    moments: Moments
    eigenvalues: Float64[Tensor, " dim"]  # of the Gram matrix, ascending
    eigenvectors: Float64[Tensor, "dim dim"]
    rotated_cross: Float64[Tensor, "dim output"]  # the cross moments in that basis

    @classmethod
    def of(cls, moments: Moments) -> "RidgePath":
        eigenvalues, eigenvectors = torch.linalg.eigh(moments.gram)
        return cls(
            moments=moments,
            eigenvalues=eigenvalues.clamp_min(0),
            eigenvectors=eigenvectors,
            rotated_cross=eigenvectors.T @ moments.cross,
        )

    def fit(self, penalty: float) -> LeastSquaresFit:
        check_penalty(penalty)
        inverse, rank = self._inverse(penalty)
        nonzero = self.eigenvalues[len(self.eigenvalues) - rank :] + penalty
        return _fit(
            self.eigenvectors @ (inverse[:, None] * self.rotated_cross),
            self.moments.mean_inputs,
            self.moments.mean_targets,
            penalty=penalty,
            rank=rank,
            condition=(nonzero[-1] / nonzero[0]).sqrt().item() if rank else float("nan"),
        )

    def gcv(self, penalty: float) -> float:
        """Generalised cross-validation (GCV): the expected mean squared error on new data.

        (RSS / n) / (1 − df / n)², df = 1 + Σ s / (s + λ). Source: Golub, Heath & Wahba 1979,
        Technometrics 21(2). Infinite if the fit has as many degrees of freedom as samples.
        """
        check_penalty(penalty)
        inverse, _ = self._inverse(penalty)
        freedom = 1 + (self.eigenvalues * inverse).sum().item()
        if freedom >= self.moments.count:
            return float("inf")
        squares = self.rotated_cross.square().sum(1)
        explained = (squares * (2 * inverse - self.eigenvalues * inverse.square())).sum()
        residual = (self.moments.target_squares.sum() - explained).clamp_min(0).item()
        return residual / self.moments.count / (1 - freedom / self.moments.count) ** 2

    def _inverse(self, penalty: float) -> tuple[Tensor, int]:
        """1 / (s + λ), 0 for directions that the data do not determine; and the rank."""
        shifted = self.eigenvalues + penalty
        # The sums of products have the precision of float32 inputs.
        cut = self.eigenvalues[-1] * len(self.eigenvalues) * torch.finfo(torch.float32).eps
        nonzero = shifted > cut if penalty == 0 else torch.ones_like(shifted, dtype=torch.bool)
        nonzero &= shifted > 0
        return torch.where(nonzero, 1 / shifted, 0), int(nonzero.sum().item())


class ChosenPenalty(NamedTuple):
    fit: LeastSquaresFit
    scores: Mapping[float, Score]  # mean squared error, summed over outputs, for each λ


def penalties(moments: Moments, *, count: int = 13) -> tuple[float, ...]:
    """λ from 1e-6 (too small) to 1e2 (too large) times the mean eigenvalue of the Gram matrix."""
    scale = moments.gram.diagonal().mean().item() or 1.0
    return tuple((scale * torch.logspace(-6, 2, count, dtype=torch.float64)).tolist())


def choose_by_gcv(moments: Moments, *, candidates: Sequence[float] = ()) -> ChosenPenalty:
    """Choose the λ of lowest generalised cross-validation, by one decomposition of the moments."""
    path = RidgePath.of(moments)
    scores = {penalty: Score((path.gcv(penalty),)) for penalty in candidates or penalties(moments)}
    best = min(scores, key=lambda penalty: scores[penalty].mean)
    return ChosenPenalty(path.fit(best), scores)


def choose_by_folds(
    inputs: Shaped[Tensor, "sample dim"],
    targets: Float[Tensor, "sample output"],
    splits: Sequence[Split],
    *,
    candidates: Sequence[float] = (),
) -> ChosenPenalty:
    """Choose the λ of lowest mean squared error over the splits, by one decomposition a split."""
    if not splits:
        raise UsageError("no split to validate on", seen="0 splits", fix="folds(targets, …)")
    total = moments(inputs, targets)
    candidates = candidates or penalties(total)
    paths = [RidgePath.of(moments(inputs[train], targets[train])) for train, _ in splits]
    scores = {}
    for penalty in candidates:
        errors = [
            _squared_error(path.fit(penalty).map, inputs[val], targets[val])
            for path, (_, val) in zip(paths, splits, strict=True)
        ]
        scores[penalty] = Score(tuple(errors))
    best = min(scores, key=lambda penalty: scores[penalty].mean)
    return ChosenPenalty(ridge(total, penalty=best), scores)


def one_hot(
    targets: Int64[Tensor, " sample"], *, num_classes: int
) -> Float[Tensor, "sample class"]:
    """1 for the class, 0 for the others, to classify by regression."""
    check_classes(targets, rows=len(targets), num_classes=num_classes)
    return torch.nn.functional.one_hot(targets, num_classes).float()


def _squared_error(linear_map: LinearMap, inputs: Tensor, targets: Tensor) -> float:
    return (linear_map(inputs) - targets).double().square().sum(1).mean().item()


def _shifted_gram(gram: Tensor, penalty: float) -> Tensor:
    shifted = gram.clone()
    shifted.diagonal().add_(penalty)
    return shifted


def _smallest_solution(x: Tensor, y: Tensor) -> tuple[Tensor, int, float]:
    if len(x) > x.shape[1]:
        basis, x = torch.linalg.qr(x)
        y = basis.T @ y
    left, values, right = torch.linalg.svd(x, full_matrices=False)
    nonzero = values > values[0] * max(x.shape) * torch.finfo(torch.float64).eps
    rank = int(nonzero.sum().item())
    inverse = torch.where(nonzero, 1 / values, 0)
    condition = (values[0] / values[rank - 1]).item() if rank else float("nan")
    return right.T @ (inverse[:, None] * (left.T @ y)), rank, condition


def _fit(
    weight: Tensor,
    mean_inputs: Tensor,
    mean_targets: Tensor,
    *,
    penalty: float = 0.0,
    rank: int = -1,
    condition: float = float("nan"),
) -> LeastSquaresFit:
    if not torch.isfinite(weight).all():
        raise DataError(
            "the solution is not finite",
            seen="inputs or targets so large that their squares overflow",
            fix="standardise the features first",
        )
    bias = mean_targets - mean_inputs @ weight
    rank = len(weight) if rank < 0 else rank
    linear_map = LinearMap(weight=weight, bias=bias)
    return LeastSquaresFit(map=linear_map, penalty=penalty, rank=rank, condition=condition)
