"""Leaving a saddle: the step along negative curvature, on a copy, predicted and measured."""

from dataclasses import dataclass
from math import sqrt
from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor

from thalweg.curvature.portions import Portion
from thalweg.curvature.products import hessian
from thalweg.curvature.surface import Surface

FIRST_GAIN = 1e-5  # of the loss: the shortest step, where the quadratic must still hold
DOUBLINGS = 24


class Stride(NamedTuple):
    """One length along the direction, and the loss gained there."""

    length: float
    predicted: float  # −(t gᵀu + ½t² uᵀHu)
    measured: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Escape:
    """A step that lowers the loss where the gradient knows none."""

    direction: Float[Tensor, " weights"]  # unit length, downhill
    length: float  # of the best step tried
    predicted: float  # loss gained by it, by the quadratic model
    measured: float
    held_out: float | None  # loss gained on other data
    strides: tuple[Stride, ...]  # shortest first: where the prediction parts from the measurement


def escape(
    surface: Surface,
    direction: Float[Tensor, " weights"],
    other: list[Portion] | None = None,
) -> Escape:
    """The best step along ±`direction`, found by doubling; no weight of the model is written to."""
    direction = direction.double() / direction.double().norm()
    slope = float(direction @ surface.gradient().double())
    if slope > 0:
        direction, slope = -direction, -slope
    curvature = float(direction @ hessian(surface, graph="rebuild")(direction))
    point, here = surface.point.double(), surface.loss()
    strides: list[Stride] = []
    length = sqrt(2 * FIRST_GAIN * max(abs(here), 1e-12) / max(abs(curvature), 1e-12))
    for _ in range(DOUBLINGS):
        there = surface.loss_at(point + length * direction)
        predicted = -(length * slope + length**2 * curvature / 2)
        strides.append(Stride(length, predicted, here - there))
        if len(strides) > 1 and not strides[-1].measured > strides[-2].measured:
            break
        length *= 2
    best = max(strides, key=lambda stride: stride.measured)
    elsewhere = None
    if other is not None:
        moved = point + best.length * direction
        elsewhere = surface.loss(other) - surface.loss_at(moved, other)
    return Escape(
        direction=direction,
        length=best.length,
        predicted=best.predicted,
        measured=best.measured,
        held_out=elsewhere,
        strides=tuple(strides),
    )
