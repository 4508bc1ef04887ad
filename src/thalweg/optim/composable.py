"""An optimizer composed of parts: θ ← θ − η_t / σ_t · m_t, a direction m, a size σ, a rate η.

It reproduces the named optimizers, step for step:

| optimizer | direction | size |
| --- | --- | --- |
| SGD | `gradient` | `one` |
| momentum, form A (v = ρv + g; θ −= ηv) | `momentum(ρ)` | `one` |
| momentum, form B (v = ρv − ηg; θ += v) | `velocity(ρ)` | `one` |
| Nesterov | `nesterov(ρ)` | `one` |
| AdaGrad | `gradient` | `root_sum()` |
| AdaGrad with a mean instead of a sum: steps do not decay by 1/√t | `gradient` | `root_mean()` |
| RMSProp | `gradient` | `root_average(α)` |
| Adam | `average(β₁)` | `root_average(β₂, corrected=True)` |

The two forms of momentum agree while the rate is constant, and differ under a schedule: B's
velocity keeps the learning rates of earlier steps.
"""

from collections.abc import Callable, Iterable
from typing import Any, Literal

import torch
from torch import Tensor

State = dict[str, Any]
Direction = Callable[[Tensor, State, float], Tensor]  # (gradient, state, η) → η · m
Size = Callable[[Tensor, State], Tensor | float]  # (gradient, state) → σ


class ComposableOptimizer(torch.optim.Optimizer):
    """Step along `direction`, divided by `size`.

    The decay "decoupled" shrinks the weights by η · weight_decay, as AdamW does; "l2" adds
    weight_decay · θ to the gradient, which `size` then divides, as in Adam.
    """

    def __init__(
        self,
        weights: Iterable[Tensor] | Iterable[dict[str, Any]],
        *,
        lr: float,
        direction: Direction,
        size: Size,
        weight_decay: float = 0.0,
        decay: Literal["decoupled", "l2"] = "decoupled",
    ) -> None:
        super().__init__(weights, {"lr": lr, "weight_decay": weight_decay})
        self.direction, self.size, self.decay = direction, size, decay

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    self._update(weight, lr=group["lr"], weight_decay=group["weight_decay"])
        return loss

    def _update(self, weight: Tensor, *, lr: float, weight_decay: float) -> None:
        assert weight.grad is not None
        state, gradient = self.state[weight], weight.grad
        state["step"] = state.get("step", 0) + 1
        if self.decay == "l2":
            gradient = gradient + weight_decay * weight
        else:
            weight.mul_(1 - lr * weight_decay)
        weight.sub_(self.direction(gradient, state, lr) / self.size(gradient, state))


def gradient(gradient: Tensor, state: State, lr: float) -> Tensor:
    """m = g."""
    return lr * gradient


def momentum(rho: float) -> Direction:
    """m = ρ m + g."""

    def direction(gradient: Tensor, state: State, lr: float) -> Tensor:
        return lr * _update_buffer(gradient, state, rho)

    return direction


def velocity(rho: float) -> Direction:
    """η m = ρ · (the last η m) + η g: the velocity includes the learning rate."""

    def direction(gradient: Tensor, state: State, lr: float) -> Tensor:
        return _update_buffer(lr * gradient, state, rho)

    return direction


def nesterov(rho: float) -> Direction:
    """m = g + ρ v with v = ρ v + g: the gradient, plus the step that momentum takes next."""

    def direction(gradient: Tensor, state: State, lr: float) -> Tensor:
        return lr * (gradient + rho * _update_buffer(gradient, state, rho))

    return direction


def average(beta: float, *, corrected: bool = True) -> Direction:
    """m = β m + (1 − β) g; bias correction divides by 1 − βᵗ, with t from 1."""

    def direction(gradient: Tensor, state: State, lr: float) -> Tensor:
        mean = _update_average(gradient, state, "mean", beta=beta)
        return lr * mean / ((1 - beta ** state["step"]) if corrected else 1)

    return direction


def one(gradient: Tensor, state: State) -> float:
    """σ = 1."""
    return 1.0


def root_sum(eps: float = 1e-10) -> Size:
    """σ = √(Σ g²) + eps: it only grows, so that steps shrink like 1/√t."""

    def size(gradient: Tensor, state: State) -> Tensor:
        state["sum"] = state.get("sum", 0) + gradient.square()
        return state["sum"].sqrt() + eps

    return size


def root_mean(eps: float = 1e-10) -> Size:
    """σ = √(Σ g² / t) + eps: steps do not shrink."""

    def size(gradient: Tensor, state: State) -> Tensor:
        state["sum"] = state.get("sum", 0) + gradient.square()
        return (state["sum"] / state["step"]).sqrt() + eps

    return size


def root_average(beta: float, *, eps: float = 1e-8, corrected: bool = False) -> Size:
    """σ = √(v) + eps with v = β v + (1 − β) g²: forgets old gradients."""

    def size(gradient: Tensor, state: State) -> Tensor:
        square = _update_average(gradient.square(), state, "square", beta=beta)
        return (square / ((1 - beta ** state["step"]) if corrected else 1)).sqrt() + eps

    return size


def _update_buffer(gradient: Tensor, state: State, rho: float) -> Tensor:
    state["gathered"] = rho * state.get("gathered", 0) + gradient
    return state["gathered"]


def _update_average(term: Tensor, state: State, name: str, *, beta: float) -> Tensor:
    state[name] = beta * state.get(name, 0) + (1 - beta) * term
    return state[name]
