"""Escape from a saddle along negative curvature: predicted and measured gains, on a copy."""

from dataclasses import dataclass
from math import sqrt
from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor

from thalweg.curvature.portions import Portion
from thalweg.curvature.products import hessian
from thalweg.curvature.surface import Surface

FIRST_GAIN = 1e-5  # of the loss: for so short a step the quadratic model must hold
DOUBLINGS = 24


class TrialStep(NamedTuple):
    """A step of one length along the direction, and its gain in loss."""

    length: float
    predicted: float  # −(t gᵀu + ½t² uᵀHu)
    measured: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Escape:
    """A step that lowers the loss where the gradient is zero."""

    direction: Float[Tensor, " weights"]  # unit length, downhill
    length: float  # of the best step tried
    predicted: float  # gain in loss by the quadratic model
    measured: float
    held_out: float | None  # gain in loss on other data
    trial_steps: tuple[TrialStep, ...]  # shortest first, until the gain falls


def escape(
    surface: Surface,
    direction: Float[Tensor, " weights"],
    other: list[Portion] | None = None,
) -> Escape:
    """Find the best step along ±`direction` by doubling; the model's weights do not change."""
    direction = direction.double() / direction.double().norm()
    slope = float(direction @ surface.gradient().double())
    if slope > 0:
        direction, slope = -direction, -slope
    curvature = float(direction @ hessian(surface, graph="rebuild")(direction))
    point, loss = surface.point.double(), surface.loss()
    trial_steps: list[TrialStep] = []
    length = sqrt(2 * FIRST_GAIN * max(abs(loss), 1e-12) / max(abs(curvature), 1e-12))
    for _ in range(DOUBLINGS):
        measured = loss - surface.loss_at(point + length * direction)
        predicted = -(length * slope + length**2 * curvature / 2)
        trial_steps.append(TrialStep(length, predicted, measured))
        if len(trial_steps) > 1 and not trial_steps[-1].measured > trial_steps[-2].measured:
            break
        length *= 2
    best = max(trial_steps, key=lambda step: step.measured)
    held_out = None
    if other is not None:
        moved = point + best.length * direction
        held_out = surface.loss(other) - surface.loss_at(moved, other)
    return Escape(
        direction=direction,
        length=best.length,
        predicted=best.predicted,
        measured=best.measured,
        held_out=held_out,
        trial_steps=tuple(trial_steps),
    )
