"""θ ← θ − η_t / σ_t · m_t: a step is a direction m, divided by a size σ, times a rate η.

Three slots reproduce the named optimizers, step for step (checklist F17):

| optimizer | direction | size |
| --- | --- | --- |
| SGD | `gradient` | `one` |
| momentum, form A (v = ρv + g; θ −= ηv) | `momentum(ρ)` | `one` |
| momentum, form B (v = ρv − ηg; θ += v) | `velocity(ρ)` | `one` |
| Nesterov | `nesterov(ρ)` | `one` |
| AdaGrad | `gradient` | `root_sum()` |
| AdaGrad as one note has it: a mean, hence no decay by 1/√t | `gradient` | `root_mean()` |
| RMSProp | `gradient` | `root_average(α)` |
| Adam | `average(β₁)` | `root_average(β₂, corrected=True)` |

The two forms of momentum agree while the rate is constant, and differ under a schedule: B's
velocity remembers the rates at which it was gathered.
"""

from collections.abc import Callable, Iterable
from typing import Any, Literal

import torch
from torch import Tensor

State = dict[str, Any]
Direction = Callable[[Tensor, State, float], Tensor]  # (gradient, state, η) → η · m
Size = Callable[[Tensor, State], Tensor | float]  # (gradient, state) → σ


class General(torch.optim.Optimizer):
    """`decay`: "decoupled" shrinks the weights by η · weight_decay, as AdamW does; "l2" adds
    weight_decay · θ to the gradient, which `size` then divides, as it does in Adam."""

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
                    self._move(weight, lr=group["lr"], weight_decay=group["weight_decay"])
        return loss

    def _move(self, weight: Tensor, *, lr: float, weight_decay: float) -> None:
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
        return lr * _gathered(gradient, state, rho)

    return direction


def velocity(rho: float) -> Direction:
    """η m = ρ · (the last η m) + η g: the learning rate is inside what is remembered."""

    def direction(gradient: Tensor, state: State, lr: float) -> Tensor:
        return _gathered(lr * gradient, state, rho)

    return direction


def nesterov(rho: float) -> Direction:
    """m = g + ρ v with v = ρ v + g: the gradient where momentum is about to lead."""

    def direction(gradient: Tensor, state: State, lr: float) -> Tensor:
        return lr * (gradient + rho * _gathered(gradient, state, rho))

    return direction


def average(beta: float, *, corrected: bool = True) -> Direction:
    """m = β m + (1 − β) g; corrected for its start at zero, divided by 1 − βᵗ with t from 1."""

    def direction(gradient: Tensor, state: State, lr: float) -> Tensor:
        mean = _averaged(gradient, state, "mean", beta=beta)
        return lr * mean / ((1 - beta ** state["step"]) if corrected else 1)

    return direction


def one(gradient: Tensor, state: State) -> float:
    """σ = 1."""
    return 1.0


def root_sum(eps: float = 1e-10) -> Size:
    """σ = √(Σ g²) + eps: grows for ever, so that steps shrink like 1/√t."""

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
        square = _averaged(gradient.square(), state, "square", beta=beta)
        return (square / ((1 - beta ** state["step"]) if corrected else 1)).sqrt() + eps

    return size


def _gathered(gradient: Tensor, state: State, rho: float) -> Tensor:
    state["gathered"] = rho * state.get("gathered", 0) + gradient
    return state["gathered"]


def _averaged(value: Tensor, state: State, name: str, *, beta: float) -> Tensor:
    state[name] = beta * state.get(name, 0) + (1 - beta) * value
    return state[name]
