"""First- and second-order steps on toy surfaces, with their Hessian as a matrix.

For experiments that compare optimizers near saddles: no command uses it.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from thalweg.curvature.toys import Toy

StepRule = Callable[[Tensor, Tensor], Tensor]  # (gradient, Hessian) → update
SINGULAR = 1e-12  # of |λ|max: eigenvectors of smaller curvature get no step
BISECTIONS = 100


def gradient_step(lr: float) -> StepRule:
    """−lr·g."""
    return lambda gradient, _: -lr * gradient


def momentum_step(lr: float, momentum: float = 0.9) -> StepRule:
    """Heavy ball: v ← βv − lr·g, and the step is v. It has state: build one per trajectory."""
    velocity: list[Tensor] = []

    def step(gradient: Tensor, _: Tensor) -> Tensor:
        before = velocity.pop() if velocity else torch.zeros_like(gradient)
        velocity.append(momentum * before - lr * gradient)
        return velocity[0]

    return step


def with_noise(step: StepRule, *, scale: float, seed: int = 0) -> StepRule:
    """The same step with Gaussian noise on the gradient, as mini-batches have."""
    generator = torch.Generator().manual_seed(seed)

    def noisy_step(gradient: Tensor, hessian: Tensor) -> Tensor:
        noise = torch.randn(gradient.shape, generator=generator, dtype=gradient.dtype)
        return step(gradient + scale * noise, hessian)

    return noisy_step


def newton_step(
    gradient: Float[Tensor, " weights"], hessian: Float[Tensor, "weights weights"]
) -> Float[Tensor, " weights"]:
    """−H⁻¹g: goes to the critical point of the quadratic, saddles included."""
    return -_divide_by_curvature(gradient, hessian, keep_sign=True)


def saddle_free_newton_step(
    gradient: Float[Tensor, " weights"], hessian: Float[Tensor, "weights weights"]
) -> Float[Tensor, " weights"]:
    """−|H|⁻¹g: Newton's length, but downhill along negative curvature too.

    Source: Dauphin et al. 2014.
    """
    return -_divide_by_curvature(gradient, hessian, keep_sign=False)


def trust_region_step(radius: float) -> StepRule:
    """Minimise the quadratic in a ball: −(H + μI)⁻¹g with the least μ ≥ 0 that fits.

    At a saddle, where g has no part along the most negative eigenvector (the "hard case"), the
    rest of the radius is spent along that vector.
    Source: Nocedal and Wright, Numerical Optimization, 4.3.
    """

    def step(gradient: Tensor, hessian: Tensor) -> Tensor:
        values, vectors = torch.linalg.eigh(hessian)
        return vectors @ _solve_in_ball(vectors.T @ gradient, values, radius)

    return step


def trajectory(
    toy: Toy, start: Float[Tensor, " weights"], *, step: StepRule, count: int
) -> Float[Tensor, "points weights"]:
    """The points visited from `start`: count + 1 rows."""
    points = [start]
    for _ in range(count):
        point = points[-1]
        points.append(point + step(toy.gradient(point), toy.hessian(point)))
    return torch.stack(points)


def _divide_by_curvature(gradient: Tensor, hessian: Tensor, *, keep_sign: bool) -> Tensor:
    values, vectors = torch.linalg.eigh(hessian)
    usable = values.abs() > SINGULAR * values.abs().max().clamp_min(1e-300)
    divisor = values if keep_sign else values.abs()
    coordinates = vectors.T @ gradient
    return vectors @ torch.where(usable, coordinates / torch.where(usable, divisor, 1.0), 0.0)


def _solve_in_ball(gradient: Tensor, values: Tensor, radius: float) -> Tensor:
    """Find the step in the eigenbasis by bisection on μ."""
    least = max(0.0, -float(values[0]))

    def shifted_step(shift: float) -> Tensor:
        shifted = values + shift
        tiny = shifted.abs() <= SINGULAR * values.abs().max().clamp_min(1e-300)
        return torch.where(tiny, 0.0, -gradient / torch.where(tiny, 1.0, shifted))

    singular = values + least <= SINGULAR * values.abs().max().clamp_min(1e-300)
    hard = not bool(gradient[singular].abs().max() > 0) if bool(singular.any()) else True
    inner = shifted_step(least)
    if hard and float(inner.norm()) <= radius:
        if values[0] < 0:
            spare = (radius**2 - float(inner.square().sum())) ** 0.5
            inner = inner.clone()
            inner[0] += spare
        return inner
    low, high = least, least + float(gradient.norm()) / radius + 1.0
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        low, high = (middle, high) if float(shifted_step(middle).norm()) > radius else (low, middle)
    return shifted_step(high)
