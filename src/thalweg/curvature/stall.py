"""Explain a loss that has stopped falling: no gradient left, steps too large, or too small.

A stalled loss is often blamed on a critical point; most often the gradient is not small.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from torch import nn
from torch.optim import Optimizer

from thalweg.borrow import LossFn
from thalweg.curvature.critical_point import ERRORS_FROM_ZERO, NEGLIGIBLE_GAIN
from thalweg.curvature.gradient_noise import GradientNoise, gradient_noise
from thalweg.curvature.sharpness import precondition
from thalweg.curvature.surface import Surface
from thalweg.curvature.twice_differentiable import BatchNormMode

ACROSS = 0.5  # of the stable curvature: from there on a step lands on the other wall


@dataclass(frozen=True, slots=True, kw_only=True)
class Stall:
    """The cause of a stalled loss and the measurements behind it."""

    verdict: Literal["critical-point", "oscillation", "plateau"]
    reason: str
    loss: float
    gradient: GradientNoise
    gain: float  # of the best step along the gradient; infinite without positive curvature
    ratio: float  # curvature along the optimizer's step / stability threshold of its step size


def stall(
    model: nn.Module,
    optimizer: Optimizer,
    *,
    loss_fn: LossFn,
    batches: Iterable[Sequence[Any]],
    batch_norm: BatchNormMode = "train",
) -> Stall:
    """Explain why a loss does not fall; the model is restored.

    critical-point: the gradient is within its sampling error of zero, or a step along it gains
    nothing: see `critical_point` for its kind. oscillation: the gradient is not zero, and the step
    crosses the valley: a smaller one gains. plateau: the gradient is not zero, and the step is too
    short: a larger one gains.

    Cost: two gradients over the data and one Hessian product.
    Raises: UsageError for optimizers without a stability threshold.
    """
    with Surface(model, loss_fn, batches, batch_norm=batch_norm) as surface:
        loss, noise = surface.loss(), gradient_noise(surface)
        preconditioned = precondition(surface, optimizer)
        slope = preconditioned.root * surface.gradient().double()
        steepness = float(slope.norm())
        if not steepness > 0:
            return _critical(loss, noise, gain=0.0, ratio=0.0)
        direction = slope / steepness
        curvature = float(direction @ preconditioned.operator(direction)) + preconditioned.decay
    gain = steepness**2 / (2 * curvature) if curvature > 0 else float("inf")
    ratio = curvature / preconditioned.threshold
    in_noise = noise.norm <= ERRORS_FROM_ZERO * noise.standard_error
    if in_noise or gain <= NEGLIGIBLE_GAIN * abs(loss):
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
    step = "lands on the other wall of the valley" if crosses else "stays on the same slope"
    return Stall(
        verdict="oscillation" if crosses else "plateau",
        reason=f"‖g‖ = {noise.norm:.3g} is not small: the best step along it gains {gain:.2g} of "
        f"{loss:.3g}; the optimizer's step {step} (curvature {ratio:.2g} of its threshold)",
        loss=loss,
        gradient=noise,
        gain=gain,
        ratio=ratio,
    )
