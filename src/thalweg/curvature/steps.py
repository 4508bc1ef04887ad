"""Steps of second order, for surfaces small enough that their Hessian can be written down."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from thalweg.curvature.toys import Toy

Step = Callable[[Tensor, Tensor], Tensor]  # (gradient, Hessian) -> update
SINGULAR = 1e-12  # of |λ|max: no step is taken along an eigenvector whose curvature is below it
BISECTIONS = 100


def gradient_step(lr: float) -> Step:
    """−lr·g."""
    return lambda gradient, _: -lr * gradient


def momentum_step(lr: float, momentum: float = 0.9) -> Step:
    """Heavy ball: v ← βv − lr·g, and the step is v. It remembers v: make one for each walk."""
    velocity: list[Tensor] = []

    def step(gradient: Tensor, _: Tensor) -> Tensor:
        before = velocity.pop() if velocity else torch.zeros_like(gradient)
        velocity.append(momentum * before - lr * gradient)
        return velocity[0]

    return step


def noisy(step: Step, *, scale: float, seed: int = 0) -> Step:
    """The same with Gaussian noise of that standard deviation on the gradient, as batches make."""
    generator = torch.Generator().manual_seed(seed)

    def taken(gradient: Tensor, hessian: Tensor) -> Tensor:
        noise = torch.randn(gradient.shape, generator=generator, dtype=gradient.dtype)
        return step(gradient + scale * noise, hessian)

    return taken


def newton_step(
    gradient: Float[Tensor, " weights"], hessian: Float[Tensor, "weights weights"]
) -> Float[Tensor, " weights"]:
    """−H⁻¹g: goes to the nearest critical point of the quadratic, saddles included."""
    return -_divided(gradient, hessian, keep_sign=True)


def saddle_free_newton_step(
    gradient: Float[Tensor, " weights"], hessian: Float[Tensor, "weights weights"]
) -> Float[Tensor, " weights"]:
    """−|H|⁻¹g: Newton's length, but downhill along negative curvature too.

    Source: Dauphin et al. 2014.
    """
    return -_divided(gradient, hessian, keep_sign=False)


def trust_region_step(radius: float) -> Step:
    """The minimiser of the quadratic in a ball: −(H + μI)⁻¹g with the least μ ≥ 0 that fits.

    At a saddle, where g has no part along the most negative eigenvector (the "hard case"), the
    rest of the radius is spent along that vector.
    Source: Nocedal and Wright, Numerical Optimization, 4.3.
    """

    def step(gradient: Tensor, hessian: Tensor) -> Tensor:
        values, vectors = torch.linalg.eigh(hessian)
        return vectors @ _in_ball(vectors.T @ gradient, values, radius)

    return step


def walk(
    toy: Toy, start: Float[Tensor, " weights"], *, step: Step, count: int
) -> Float[Tensor, "places weights"]:
    """The places visited from `start`: count + 1 rows."""
    places = [start]
    for _ in range(count):
        here = places[-1]
        places.append(here + step(toy.slope(here), toy.curvature(here)))
    return torch.stack(places)


def _divided(gradient: Tensor, hessian: Tensor, *, keep_sign: bool) -> Tensor:
    values, vectors = torch.linalg.eigh(hessian)
    usable = values.abs() > SINGULAR * values.abs().max().clamp_min(1e-300)
    divisor = values if keep_sign else values.abs()
    parts = vectors.T @ gradient
    return vectors @ torch.where(usable, parts / torch.where(usable, divisor, 1.0), 0.0)


def _in_ball(parts: Tensor, values: Tensor, radius: float) -> Tensor:
    """The step in the eigenbasis, by bisection on μ."""
    least = max(0.0, -float(values[0]))

    def at(shift: float) -> Tensor:
        moved = values + shift
        tiny = moved.abs() <= SINGULAR * values.abs().max().clamp_min(1e-300)
        return torch.where(tiny, 0.0, -parts / torch.where(tiny, 1.0, moved))

    blocked = values + least <= SINGULAR * values.abs().max().clamp_min(1e-300)
    hard = not bool(parts[blocked].abs().max() > 0) if bool(blocked.any()) else True
    inner = at(least)
    if hard and float(inner.norm()) <= radius:
        if values[0] < 0:
            spare = (radius**2 - float(inner.square().sum())) ** 0.5
            inner = inner.clone()
            inner[0] += spare
        return inner
    low, high = least, least + float(parts.norm()) / radius + 1.0
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        low, high = (middle, high) if float(at(middle).norm()) > radius else (low, middle)
    return at(high)
