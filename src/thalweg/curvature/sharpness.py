"""How sharp the point is that training stands on, and whether its step size can stand it."""

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
from thalweg.curvature.twice_differentiable import BatchNormMode, Normalised
from thalweg.errors import UsageError

ADAMS = ("Adam", "AdamW", "NAdam", "RAdam")
WARM_NOISE = 1e-3  # mixed into a warm start, so that a new largest eigenvalue can be found


@dataclass(frozen=True, slots=True, kw_only=True)
class Sharpness:
    """The largest eigenvalue of the Hessian and its eigenvector."""

    value: float
    error: float  # |λ − value| is at most about this
    vector: Float[Tensor, " weights"]
    products: int
    batch_norm: Normalised


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
    """λmax to about `tolerance` of itself; `start` is the vector of the last time.

    Cost: 5–20 products cold, fewer warm.
    """
    with Surface(model, loss_fn, batches, weights=weights, batch_norm=batch_norm) as surface:
        return _largest(
            hessian(surface),
            start=start,
            tolerance=tolerance,
            max_steps=max_steps,
            batch_norm=surface.normalised,
        )


def _largest(
    operator: Operator,
    *,
    start: Tensor | None,
    tolerance: float,
    max_steps: int,
    batch_norm: Normalised,
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
    """Sharpness as the optimizer feels it, against the most that its step size can stand."""

    sharpness: float  # λmax, preconditioned as the optimizer does it
    threshold: float  # above it, a quadratic of this curvature diverges
    form: Literal["sgd", "adam"]

    @property
    def ratio(self) -> float:
        """Near 1: at the edge. Far below: the step size could be larger."""
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
    """λmax against the optimizer's stability threshold: 2/η for gradient descent, (2 + 2β)/η with
    momentum; for Adam (2 + 2β₁)/((1 − β₁)η) against λmax of P^−½ H P^−½ with Adam's own scaling.

    Source: Cohen et al. 2021, "Gradient descent on neural networks typically occurs at the edge of
    stability"; Cohen et al. 2022, "Adaptive gradient methods at the edge of stability".
    Raises: UsageError for other optimizers.
    """
    with Surface(model, loss_fn, batches, batch_norm=batch_norm) as surface:
        return felt_sharpness(surface, optimizer, tolerance=tolerance)


def felt_sharpness(
    surface: Surface, optimizer: Optimizer, *, tolerance: float = 1e-2
) -> EdgeOfStability:
    """The same on a surface at hand."""
    felt = as_felt(surface, optimizer)
    found = _largest(
        felt.operator, start=None, tolerance=tolerance, max_steps=100, batch_norm=surface.normalised
    )
    return EdgeOfStability(
        sharpness=found.value + felt.decay, threshold=felt.threshold, form=felt.form
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Felt:
    """The Hessian in the coordinates in which the optimizer's step goes along the gradient."""

    operator: Operator
    root: Float[Tensor, " weights"]  # a gradient times this is the gradient in those coordinates
    decay: float  # curvature that coupled weight decay adds
    threshold: float  # curvature above which the step size diverges
    form: Literal["sgd", "adam"]


def as_felt(surface: Surface, optimizer: Optimizer) -> Felt:
    """A surface as the optimizer sees it. Raises UsageError where no threshold is known."""
    plain, group = hessian(surface), optimizer.param_groups[0]
    lr, adam = float(group["lr"]), form_of(optimizer) == "adam"
    scaling = _adam_scaling(surface, optimizer) if adam else _sgd_scaling(surface, optimizer)
    root = scaling.rsqrt() if adam else scaling
    return Felt(
        operator=Operator(
            lambda v: root * plain(root * v).to(v.dtype), plain.size, torch.float64, plain.device
        ),
        root=root,
        decay=0.0 if adam else float(group.get("weight_decay", 0.0)),  # torch's SGD couples it: L2
        threshold=adam_threshold(lr, group["betas"][0])
        if adam
        else sgd_threshold(
            lr, momentum=group.get("momentum", 0.0), nesterov=bool(group.get("nesterov"))
        ),
        form="adam" if adam else "sgd",
    )


def form_of(optimizer: Optimizer) -> Literal["sgd", "adam"] | None:
    """Which threshold holds for the optimizer; None where none is known."""
    name = type(optimizer).__name__
    return "sgd" if name == "SGD" else "adam" if name in ADAMS else None


def sgd_threshold(lr: float, *, momentum: float = 0.0, nesterov: bool = False) -> float:
    """The curvature above which gradient descent with this step size diverges on a quadratic."""
    heavy = (2 + 2 * momentum) / lr
    return heavy / (1 + 2 * momentum) if nesterov else heavy


def adam_threshold(lr: float, beta1: float) -> float:
    """The same for Adam, for curvature preconditioned by Adam's scaling: 38/lr at β₁ = 0.9."""
    return (2 + 2 * beta1) / ((1 - beta1) * lr)


def _sgd_scaling(surface: Surface, optimizer: Optimizer) -> Tensor:
    """√(lr of each weight / lr of the first group): groups may have their own step sizes."""
    if form_of(optimizer) != "sgd":
        raise UsageError(
            f"no stability threshold is known for {type(optimizer).__name__}",
            fix=f"it is for SGD and for {', '.join(ADAMS)}; `sharpness` gives the plain λmax",
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
                "Adam has no state yet for some weight",
                fix="take at least one optimizer step before asking for the edge of stability",
            )
        beta1, beta2 = group["betas"]
        step = float(state["step"])
        second = state["exp_avg_sq"].double() / (1 - beta2**step)
        parts.append((second.sqrt() + group["eps"]) * (1 - beta1**step))
    return surface.flat(parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class WorstCase:
    """The largest rise of the loss that was found in a ball around the weights."""

    rise: float  # a lower bound of the true maximum, as any ascent's
    loss: float  # at the centre
    radius: float
    adaptive: bool


def worst_case(
    surface: Surface, *, radius: float = 0.05, adaptive: bool = False, steps: int = 15
) -> WorstCase:
    """max loss(w + d) − loss(w) over ‖d‖ ≤ radius; the sharpness that SAM minimises.

    `adaptive` measures d relative to each weight, ‖d / |w|‖ ≤ radius, which does not change when
    a layer is scaled up and the next one down. Fixed-point ascent d ← radius·g/‖g‖ at w + d, from
    the gradient and from both ends of the sharpest direction.

    Source: Keskar et al. 2017; Foret et al. 2021 (SAM); Kwon et al. 2021 (adaptive).
    """
    point, here = surface.point.double(), surface.loss()
    scale = point.abs() if adaptive else torch.ones_like(point)
    top = lanczos(hessian(surface), top=1, bottom=0, tolerance=1e-2, max_steps=50).vectors([-1])[0]
    best = 0.0
    for seed in (surface.gradient().double() * scale, top * scale, -top * scale):
        ahead = seed
        for _ in range(steps):
            if not float(ahead.norm()) > 0:
                break
            moved = point + scale * (radius * ahead / ahead.norm())
            rise = surface.loss_at(moved) - here
            best = max(best, rise)
            ahead = surface.gradient_at(moved).double() * scale
    return WorstCase(rise=best, loss=here, radius=radius, adaptive=adaptive)
