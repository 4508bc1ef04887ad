"""Softmax and support-vector linear classifiers, fitted to the minimum of a convex loss.

The loss is mean(loss of a sample) + penalty/2 · ‖W‖², the bias unpenalised. (A term λ ΣW² is
penalty = 2λ; scikit-learn's C is 1 / (penalty · samples).)

It is faster than a general optimiser because the curvature has a bound: that of softmax is at most
½ (I − 11ᵀ/K) ⊗ cov(x) (Böhning 1992, Ann. Inst. Stat. Math. 44). L-BFGS, preconditioned by the
covariance of the inputs, then takes as many passes for correlated inputs as for others.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int64, Shaped
from torch import Tensor

from thalweg.classical.checks import (
    check_classes,
    check_count,
    check_name,
    check_penalty,
    check_vectors,
)
from thalweg.classical.lbfgs import Minimum, minimise
from thalweg.classical.linear_losses import (
    ScoreLoss,
    multiclass_hinge,
    sigmoid,
    softmax,
    squared_hinge,
)
from thalweg.classical.linear_map import LinearMap

Loss = Literal["softmax", "svm", "squared-svm"]

LOSSES: dict[Loss, tuple[ScoreLoss, ...]] = {
    "softmax": (softmax,),
    # L-BFGS needs a smooth loss: the hinge is smoothed less and less, each fit from the last.
    "svm": tuple(multiclass_hinge(smoothing=δ) for δ in (1.0, 0.3, 0.1, 0.03, 0.01, 0.003)),
    "squared-svm": (squared_hinge,),
}
CURVATURE: dict[Loss, float] = {"softmax": 0.25, "svm": 1.0, "squared-svm": 2.0}
BLOCK_BYTES = 2**22  # of inputs, read from memory once and from the cache the second time
FLOOR = 1e-4  # of a feature's variance
SAMPLED_ROWS = 4  # rows per feature that the covariance is estimated from


@dataclass(frozen=True, slots=True, kw_only=True)
class LinearFit:
    map: LinearMap
    objective: float  # mean loss + penalty/2 · ‖W‖²
    iterations: int
    converged: bool


def linear_classifier(
    inputs: Shaped[Tensor, "sample dim"],
    targets: Int64[Tensor, " sample"],
    *,
    num_classes: int,
    loss: Loss = "softmax",
    penalty: float = 1e-4,
    tolerance: float = 1e-6,
    max_iterations: int = 500,
    start: LinearMap | None = None,
    check: Callable[[], None] | None = None,
) -> LinearFit:
    """Fit the linear classifier of least loss on all the data.

    `tolerance` is relative to the objective. Features need no scaling for speed, but the penalty
    treats all alike: standardise them if their units differ. `start` continues from a solution, say
    of the neighbouring penalty. `check` is called before each iteration, and may raise.
    Raises: DataError (empty, not finite, one class), UsageError (penalty < 0, unknown loss).
    """
    check_name(loss, tuple(LOSSES), "loss")
    check_penalty(penalty)
    check_penalty(tolerance, "tolerance")
    check_count(max_iterations, name="max_iterations", most=10**9, of="at least one")
    check_vectors(inputs, "inputs")
    check_classes(targets, rows=len(inputs), num_classes=num_classes)
    problem = _Problem(inputs, targets, num_classes=num_classes, penalty=penalty)
    inverse = problem.inverse_curvature(CURVATURE[loss])
    point, iterations = problem.point(start), 0
    for score_loss in LOSSES[loss]:
        minimum = minimise(
            problem.objective(score_loss),
            point,
            precondition=inverse,
            tolerance=tolerance,
            max_iterations=max_iterations,
            check=check,
        )
        point, iterations = minimum.point, iterations + minimum.iterations
    exact = multiclass_hinge() if loss == "svm" else LOSSES[loss][-1]
    return problem.fit(minimum, iterations=iterations, loss=exact)


def linear_labels(
    inputs: Shaped[Tensor, "sample dim"],
    targets: Float[Tensor, "sample label"],
    *,
    penalty: float = 1e-4,
    tolerance: float = 1e-6,
    max_iterations: int = 500,
    start: LinearMap | None = None,
) -> LinearFit:
    """Fit a logistic regression for each label, all of them in the same passes.

    The arguments are those of `linear_classifier`, the targets one row of zeros and ones a sample.
    A label that no sample bears, or every one, has no minimum: its bias ends where progress does.
    Raises: DataError (empty, not finite), UsageError (penalty < 0).
    """
    check_penalty(penalty)
    check_penalty(tolerance, "tolerance")
    check_vectors(inputs, "inputs")
    problem = _Problem(inputs, targets, num_classes=targets.shape[1], penalty=penalty)
    minimum = minimise(
        problem.objective(sigmoid),
        problem.point(start),
        precondition=problem.inverse_curvature(CURVATURE["softmax"]),
        tolerance=tolerance,
        max_iterations=max_iterations,
    )
    return problem.fit(minimum, iterations=minimum.iterations, loss=sigmoid)


class _Problem:
    """The data of one fit. A point is [dim + 1, class] in float64: weights about the mean, bias."""

    def __init__(
        self, inputs: Tensor, targets: Tensor, *, num_classes: int, penalty: float
    ) -> None:
        self.inputs, self.targets = inputs, targets
        self.num_classes, self.penalty = num_classes, penalty
        self.dtype = torch.promote_types(inputs.dtype, torch.float32)
        rows = max(1, BLOCK_BYTES // (inputs.shape[1] * self.dtype.itemsize))
        self.blocks = list(zip(inputs.split(rows), targets.split(rows), strict=True))
        self.mean = sum(
            (block.sum(0, dtype=torch.float64) for block, _ in self.blocks),
            torch.zeros(inputs.shape[1], dtype=torch.float64, device=inputs.device),
        ) / len(inputs)

    def objective(self, loss: ScoreLoss) -> Callable[[Tensor], tuple[float, Tensor]]:
        def evaluate(point: Tensor) -> tuple[float, Tensor]:
            # Products with few classes are 2–3× faster with the classes as rows.
            weight = point[:-1].T.to(self.dtype).contiguous()
            bias = (point[-1] - self.mean @ point[:-1]).to(self.dtype)
            total = torch.zeros((), dtype=torch.float64, device=point.device)
            gradient = torch.zeros_like(point)
            for block, targets in self.blocks:
                x = block.to(self.dtype)
                value, slope = loss((weight @ x.T).T.contiguous() + bias, targets)
                total += value
                gradient[:-1] += (slope.T @ x).T
                gradient[-1] += slope.sum(0)
            gradient[:-1].addr_(self.mean, gradient[-1], alpha=-1)
            gradient /= len(self.inputs)
            gradient[:-1] += self.penalty * point[:-1]
            size = point[:-1].square().sum()
            return (total / len(self.inputs) + self.penalty / 2 * size).item(), gradient

        return evaluate

    def inverse_curvature(self, bound: float) -> Callable[[Tensor], Tensor]:
        """(bound · cov(x) + penalty)⁻¹ on weights, 1 / bound on the bias."""
        dim = self.inputs.shape[1]
        every = max(1, len(self.inputs) // max(SAMPLED_ROWS * dim, 4096))
        sample = self.inputs[::every].to(self.dtype) - self.mean.to(self.dtype)
        covariance = (sample.T @ sample).double() / len(sample)
        variance = covariance.diagonal().clone()
        # A little of each variance bounds the steps in directions that the sample lacks.
        floor = torch.where(variance > 0, FLOOR * variance, 1)
        covariance.mul_(bound).diagonal().add_(self.penalty + bound * floor)
        factor = torch.linalg.cholesky(covariance)

        def apply(gradient: Tensor) -> Tensor:
            solved = torch.cholesky_solve(gradient[:-1], factor)
            return torch.cat((solved, gradient[-1:] / bound))

        return apply

    def point(self, start: LinearMap | None) -> Tensor:
        shape = self.inputs.shape[1] + 1, self.num_classes
        if start is None:
            return torch.zeros(shape, dtype=torch.float64, device=self.inputs.device)
        bias = start.bias.double() + self.mean @ start.weight.double()
        return torch.cat((start.weight.double(), bias[None]))

    def fit(self, minimum: Minimum, *, iterations: int, loss: ScoreLoss) -> LinearFit:
        weight = minimum.point[:-1]
        bias = minimum.point[-1] - self.mean @ weight
        value, _ = self.objective(loss)(minimum.point)
        return LinearFit(
            map=LinearMap(weight=weight.to(self.dtype), bias=bias.to(self.dtype)),
            objective=value,
            iterations=iterations,
            converged=minimum.converged,
        )
