"""Why the loss has stopped falling: no slope left, a step too large for the ravine, or too small.

A loss that stands still is often blamed on a critical point; most often the gradient is not small.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from torch import nn
from torch.optim import Optimizer

from thalweg.borrow import LossFn
from thalweg.curvature.critical_point import ERRORS_FROM_ZERO, WORTHLESS_GAIN
from thalweg.curvature.gradient_noise import GradientNoise, gradient_noise
from thalweg.curvature.sharpness import as_felt
from thalweg.curvature.surface import Surface
from thalweg.curvature.twice_differentiable import BatchNormMode

ACROSS = 0.5  # of what the step can stand: from there on it lands on the other wall


@dataclass(frozen=True, slots=True, kw_only=True)
class Stall:
    """Which of the three it is, and what was measured to say so."""

    verdict: Literal["critical-point", "oscillation", "plateau"]
    reason: str
    loss: float
    gradient: GradientNoise
    gain: float  # what the best step along the gradient could gain; infinite where none is best
    ratio: float  # curvature along the optimizer's step / what its step size can stand


def stall(
    model: nn.Module,
    optimizer: Optimizer,
    *,
    loss_fn: LossFn,
    batches: Iterable[Sequence[Any]],
    batch_norm: BatchNormMode = "train",
) -> Stall:
    """Tells why a loss stands still; the model is left as found.

    critical-point: the gradient is within its sampling error of zero, or there is nothing to gain
    by it: see `critical_point` for which kind. oscillation: there is a slope, and the step along it
    crosses the valley: a smaller one gains. plateau: there is a slope, and the step along it is
    small beside the way: a larger one gains.

    Cost: two gradients over the data and one Hessian product.
    Raises: UsageError for optimizers of which no stability threshold is known.
    """
    with Surface(model, loss_fn, batches, batch_norm=batch_norm) as surface:
        loss, noise = surface.loss(), gradient_noise(surface)
        felt = as_felt(surface, optimizer)
        slope = felt.root * surface.gradient().double()
        steepness = float(slope.norm())
        if not steepness > 0:
            return _critical(loss, noise, gain=0.0, ratio=0.0)
        along = slope / steepness
        curvature = float(along @ felt.operator(along)) + felt.decay
    gain = steepness**2 / (2 * curvature) if curvature > 0 else float("inf")
    ratio = curvature / felt.threshold
    in_noise = noise.norm <= ERRORS_FROM_ZERO * noise.standard_error
    if in_noise or gain <= WORTHLESS_GAIN * abs(loss):
        return _critical(loss, noise, gain=gain, ratio=ratio)
    return _sloping(loss, noise, gain=gain, ratio=ratio)


def _critical(loss: float, noise: GradientNoise, *, gain: float, ratio: float) -> Stall:
    return Stall(
        verdict="critical-point",
        reason=f"‖g‖ = {noise.norm:.3g} (standard error {noise.standard_error:.2g}): the best step "
        f"along it gains {gain:.2g} of {loss:.3g}",
        loss=loss,
        gradient=noise,
        gain=gain,
        ratio=ratio,
    )


def _sloping(loss: float, noise: GradientNoise, *, gain: float, ratio: float) -> Stall:
    crosses = ratio > ACROSS
    where = "lands on the other wall of the valley" if crosses else "stays on the same slope"
    return Stall(
        verdict="oscillation" if crosses else "plateau",
        reason=f"‖g‖ = {noise.norm:.3g} is not small: the best step along it gains {gain:.2g} of "
        f"{loss:.3g}; the optimizer's own {where} (curvature {ratio:.2g} of what it can stand)",
        loss=loss,
        gradient=noise,
        gain=gain,
        ratio=ratio,
    )
