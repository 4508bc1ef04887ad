"""Limited-memory BFGS with a preconditioner: a few dozen passes instead of hundreds.

Source: Nocedal & Wright 2006, Numerical Optimization, §7.2 (the two-loop recursion), with a fixed
approximation of the inverse curvature instead of a multiple of the identity.
"""

from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from jaxtyping import Float64
from torch import Tensor

from thalweg.errors import TrainingError

MEMORY = 10  # pairs of step and gradient change
SUFFICIENT = 1e-4  # Armijo's fraction of the predicted decrease
SHORTEST = 2.0**-30  # a shorter step finds only rounding


class Minimum(NamedTuple):
    point: Tensor
    value: float
    iterations: int
    evaluations: int
    converged: bool


class _Pair(NamedTuple):
    step: Tensor
    change: Tensor  # of the gradient
    curvature: float  # step · change > 0


Objective = Callable[[Tensor], tuple[float, Tensor]]


def minimise(
    objective: Objective,
    start: Float64[Tensor, "..."],
    *,
    precondition: Callable[[Tensor], Tensor],
    tolerance: float,
    max_iterations: int,
    check: Callable[[], None] | None = None,
) -> Minimum:
    """Minimise a smooth convex function, point → (value, gradient).

    Stops when the predicted decrease of a step is below `tolerance` × |value|, or when no step
    along it lowers the value (rounding dominates the objective). `check` is called before each
    iteration, and may raise to end it.
    Raises: TrainingError if the objective is not finite at the start.
    """
    point, pairs = start, deque[_Pair](maxlen=MEMORY)
    value, gradient = objective(point)
    if not _is_finite(value):
        raise TrainingError(
            "the loss is not finite before the first step",
            seen=str(value),
            fix="standardise the features first",
        )
    evaluations = 1
    for iteration in range(max_iterations):
        if check is not None:
            check()
        direction = -_direction(gradient, pairs, precondition)
        slope = _dot(gradient, direction)
        if -slope <= 2 * tolerance * abs(value):
            return Minimum(point, value, iteration, evaluations, converged=True)
        length = 1.0
        while True:
            new_value, new_gradient = objective(point + length * direction)
            evaluations += 1
            if new_value <= value + SUFFICIENT * length * slope:
                break
            length /= 2 if _is_finite(new_value) else 8
            if length < SHORTEST:
                return Minimum(point, value, iteration, evaluations, converged=True)
        step, change = length * direction, new_gradient - gradient
        curvature = _dot(step, change)
        if curvature > 1e-12 * _dot(change, change) ** 0.5 * _dot(step, step) ** 0.5:
            pairs.append(_Pair(step, change, curvature))
        point, value, gradient = point + step, new_value, new_gradient
    return Minimum(point, value, max_iterations, evaluations, converged=False)


def _direction(
    gradient: Tensor, pairs: deque[_Pair], precondition: Callable[[Tensor], Tensor]
) -> Tensor:
    """The inverse curvature times the gradient, by the two-loop recursion."""
    q, weights = gradient.clone(), []
    for pair in reversed(pairs):
        weight = _dot(pair.step, q) / pair.curvature
        q -= weight * pair.change
        weights.append(weight)
    r = precondition(q)
    if pairs:
        last = pairs[-1]
        # The preconditioner is right up to a factor; the last step measures the factor.
        r *= last.curvature / _dot(last.change, precondition(last.change))
    for pair, weight in zip(pairs, reversed(weights), strict=True):
        r += (weight - _dot(pair.change, r) / pair.curvature) * pair.step
    return r


def _dot(first: Tensor, second: Tensor) -> float:
    return (first * second).sum().item()


def _is_finite(value: float) -> bool:
    return abs(value) < float("inf")
