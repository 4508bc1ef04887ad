"""Sharpness (λmax of the Hessian), and its ratio to the optimizer's stability threshold."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.optim import Optimizer

from thalweg.borrow import LossFn
from thalweg.curvature.lanczos import lanczos
from thalweg.curvature.operators import Operator
from thalweg.curvature.products import hessian
from thalweg.curvature.surface import Surface
from thalweg.curvature.twice_differentiable import BatchNormMode, Normalisation
from thalweg.errors import UsageError

ADAMS = ("Adam", "AdamW", "NAdam", "RAdam")
WARM_NOISE = 1e-3  # added to a warm start, to find a new largest eigenvalue


@dataclass(frozen=True, slots=True, kw_only=True)
class Sharpness:
    """The largest eigenvalue of the Hessian and its eigenvector."""

    value: float
    error: float  # |λ − value| is at most about this
    vector: Float[Tensor, " weights"]
    products: int
    batch_norm: Normalisation


def sharpness(
    model: nn.Module,
    loss_fn: LossFn,
    batches: Iterable[Sequence[Any]],
    *,
    start: Float[Tensor, " weights"] | None = None,
    tolerance: float = 1e-2,
    weights: Sequence[str] | None = None,
    batch_norm: BatchNormMode = "train",
    max_steps: int = 50,
) -> Sharpness:
    """Measure λmax to a relative `tolerance`; `start` is the eigenvector of an earlier call.

    Cost: 5–20 products, fewer with `start`.
    """
    with Surface(model, loss_fn, batches, weights=weights, batch_norm=batch_norm) as surface:
        return _largest(
            hessian(surface),
            start=start,
            tolerance=tolerance,
            max_steps=max_steps,
            batch_norm=surface.normalisation,
        )


def _largest(
    operator: Operator,
    *,
    start: Tensor | None,
    tolerance: float,
    max_steps: int,
    batch_norm: Normalisation,
) -> Sharpness:
    if start is not None:
        noise = torch.randn(operator.size, generator=torch.Generator().manual_seed(0)).double()
        noise = noise.to(operator.device)
        start = start.double() / start.double().norm() + WARM_NOISE * noise / noise.norm()
    krylov = lanczos(
        operator, top=1, bottom=0, tolerance=tolerance, start=start, max_steps=max_steps
    )
    return Sharpness(
        value=float(krylov.values[-1]),
        error=float(krylov.errors[-1]),
        vector=krylov.vectors([-1])[0],
        products=operator.products,
        batch_norm=batch_norm,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class EdgeOfStability:
    """Preconditioned sharpness, and the optimizer's stability threshold."""

    sharpness: float  # λmax, preconditioned as in the optimizer's step
    threshold: float  # on a quadratic of larger curvature the step diverges
    form: Literal["sgd", "adam"]

    @property
    def ratio(self) -> float:
        """Near 1: at the edge of stability. Far below: the step size could be larger."""
        return self.sharpness / self.threshold


def edge_of_stability(
    model: nn.Module,
    optimizer: Optimizer,
    *,
    loss_fn: LossFn,
    batches: Iterable[Sequence[Any]],
    tolerance: float = 1e-2,
    batch_norm: BatchNormMode = "train",
) -> EdgeOfStability:
    """Measure λmax against the optimizer's stability threshold.

    The threshold is 2/η for gradient descent, (2 + 2β)/η with momentum; for Adam it is
    (2 + 2β₁)/((1 − β₁)η), for λmax of P^−½ H P^−½ with Adam's own scaling P.

    Source: Cohen et al. 2021, "Gradient descent on neural networks typically occurs at the edge of
    stability"; Cohen et al. 2022, "Adaptive gradient methods at the edge of stability".
    Raises: UsageError for other optimizers.
    """
    with Surface(model, loss_fn, batches, batch_norm=batch_norm) as surface:
        return preconditioned_sharpness(surface, optimizer, tolerance=tolerance)


def preconditioned_sharpness(
    surface: Surface, optimizer: Optimizer, *, tolerance: float = 1e-2
) -> EdgeOfStability:
    """Measure the edge of stability on a surface in use."""
    preconditioned = precondition(surface, optimizer)
    largest = _largest(
        preconditioned.operator,
        start=None,
        tolerance=tolerance,
        max_steps=100,
        batch_norm=surface.normalisation,
    )
    return EdgeOfStability(
        sharpness=largest.value + preconditioned.decay,
        threshold=preconditioned.threshold,
        form=preconditioned.form,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class PreconditionedHessian:
    """The Hessian in coordinates in which the optimizer's step follows the gradient."""

    operator: Operator
    root: Float[Tensor, " weights"]  # times the gradient: the gradient in these coordinates
    decay: float  # curvature that coupled weight decay adds
    threshold: float  # curvature above which the step size diverges
    form: Literal["sgd", "adam"]


def precondition(surface: Surface, optimizer: Optimizer) -> PreconditionedHessian:
    """Precondition the surface's Hessian as the optimizer does.

    Raises: UsageError for optimizers without a stability threshold.
    """
    plain, group = hessian(surface), optimizer.param_groups[0]
    lr, adam = float(group["lr"]), threshold_form(optimizer) == "adam"
    scaling = _adam_scaling(surface, optimizer) if adam else _sgd_scaling(surface, optimizer)
    root = scaling.rsqrt() if adam else scaling
    return PreconditionedHessian(
        operator=Operator(
            lambda v: root * plain(root * v).to(v.dtype), plain.size, torch.float64, plain.device
        ),
        root=root,
        decay=0.0 if adam else float(group.get("weight_decay", 0.0)),  # torch's SGD couples it (L2)
        threshold=adam_threshold(lr, group["betas"][0])
        if adam
        else sgd_threshold(
            lr, momentum=group.get("momentum", 0.0), nesterov=bool(group.get("nesterov"))
        ),
        form="adam" if adam else "sgd",
    )


def threshold_form(optimizer: Optimizer) -> Literal["sgd", "adam"] | None:
    """The kind of stability threshold for the optimizer; None without one."""
    name = type(optimizer).__name__
    return "sgd" if name == "SGD" else "adam" if name in ADAMS else None


def sgd_threshold(lr: float, *, momentum: float = 0.0, nesterov: bool = False) -> float:
    """The curvature above which gradient descent with this step size diverges on a quadratic."""
    heavy_ball = (2 + 2 * momentum) / lr
    return heavy_ball / (1 + 2 * momentum) if nesterov else heavy_ball


def adam_threshold(lr: float, beta1: float) -> float:
    """The threshold of Adam on preconditioned curvature: 38/lr at β₁ = 0.9."""
    return (2 + 2 * beta1) / ((1 - beta1) * lr)


def _sgd_scaling(surface: Surface, optimizer: Optimizer) -> Tensor:
    """√(lr of each weight / lr of the first group), since groups may have their own step sizes."""
    if threshold_form(optimizer) != "sgd":
        raise UsageError(
            f"there is no stability threshold for {type(optimizer).__name__}",
            fix=f"use SGD or {', '.join(ADAMS)}; `sharpness` gives the plain λmax",
        )
    first = optimizer.param_groups[0]["lr"]
    rates = {
        id(w): group["lr"] / first for group in optimizer.param_groups for w in group["params"]
    }
    parts = [torch.full_like(w, rates.get(id(w), 0.0)) for w in surface.originals]
    return surface.flat(parts).detach().double().sqrt()


def _adam_scaling(surface: Surface, optimizer: Optimizer) -> Tensor:
    """(1 − β₁ᵗ)(√v̂ + ε) of each weight, from the optimizer's own state."""
    groups = {id(w): group for group in optimizer.param_groups for w in group["params"]}
    parts = []
    for weight in surface.originals:
        state, group = optimizer.state.get(weight), groups.get(id(weight))
        if not state or group is None:
            raise UsageError(
                "Adam has no state yet for some weights",
                fix="take at least one optimizer step before you measure the edge of stability",
            )
        beta1, beta2 = group["betas"]
        step = float(state["step"])
        second = state["exp_avg_sq"].double() / (1 - beta2**step)
        parts.append((second.sqrt() + group["eps"]) * (1 - beta1**step))
    return surface.flat(parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class WorstCase:
    """The largest rise of the loss in a ball around the weights."""

    rise: float  # a lower bound of the true maximum
    loss: float  # at the centre
    radius: float
    adaptive: bool


def worst_case(
    surface: Surface, *, radius: float = 0.05, adaptive: bool = False, steps: int = 15
) -> WorstCase:
    """Maximise loss(w + d) − loss(w) over ‖d‖ ≤ radius, the sharpness that SAM minimises.

    `adaptive` measures d relative to each weight, ‖d / |w|‖ ≤ radius, which does not change when
    a layer is scaled up and the next one down. The ascent iterates d ← radius·g/‖g‖ at w + d, from
    the gradient and from both ends of the sharpest direction.

    Source: Keskar et al. 2017; Foret et al. 2021 (SAM); Kwon et al. 2021 (adaptive).
    """
    point, loss = surface.point.double(), surface.loss()
    scale = point.abs() if adaptive else torch.ones_like(point)
    top = lanczos(hessian(surface), top=1, bottom=0, tolerance=1e-2, max_steps=50).vectors([-1])[0]
    best = 0.0
    for seed in (surface.gradient().double() * scale, top * scale, -top * scale):
        direction = seed
        for _ in range(steps):
            if not float(direction.norm()) > 0:
                break
            neighbour = point + scale * (radius * direction / direction.norm())
            best = max(best, surface.loss_at(neighbour) - loss)
            direction = surface.gradient_at(neighbour).double() * scale
    return WorstCase(rise=best, loss=loss, radius=radius, adaptive=adaptive)
