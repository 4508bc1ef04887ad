"""Muon: momentum whose matrices are made orthogonal before each step.

An update of all-equal singular values moves every direction of a layer alike, where the raw
momentum of a matrix is dominated by a few. It keeps one buffer a weight, half of Adam's.
Source: Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/; the scale of the update:
Liu et al. 2025, https://arxiv.org/abs/2502.16982, equation 4.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable
from math import sqrt
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from thalweg.optim.lean import lean

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)  # a quintic that is steep at 0 and near 1 on [0.7, 1.2]
NEWTON_SCHULZ_STEPS = 5
ADAM_RMS = 0.2  # typical root mean square of an AdamW update, so that one lr suits both groups
ADAM_BETAS = (0.9, 0.95)
EPS = 1e-8


class Muon(torch.optim.Optimizer):
    """Groups with `orthogonal` True hold matrices and filters; the others are left to AdamW."""

    def __init__(
        self,
        groups: Iterable[dict[str, Any]],
        *,
        lr: float,
        momentum: float,
        newton_schulz_steps: int = NEWTON_SCHULZ_STEPS,
    ) -> None:
        super().__init__(groups, {"lr": lr, "momentum": momentum, "orthogonal": False})
        self.newton_schulz_steps = newton_schulz_steps

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            weights = [weight for weight in group["params"] if weight.grad is not None]
            for weight in weights:
                weight.mul_(1 - group["lr"] * group["weight_decay"])
            if group["orthogonal"]:
                self._step_orthogonal(weights, lr=group["lr"], momentum=group["momentum"])
            else:
                self._step_adam(weights, lr=group["lr"])
        return loss

    def _step_orthogonal(self, weights: list[Tensor], *, lr: float, momentum: float) -> None:
        """Nesterov momentum, then one batch of matrix products for all matrices of one shape."""
        alike: dict[tuple[int, ...], list[tuple[Tensor, Tensor]]] = defaultdict(list)
        for weight in weights:
            gradient = _gradient(weight)
            buffer = self._buffer(weight, "momentum").lerp_(gradient, 1 - momentum)
            matrix = gradient.lerp(buffer, momentum).flatten(1)
            alike[tuple(matrix.shape)].append((weight, matrix))
        for shape, members in alike.items():
            updates = orthogonalised(
                torch.stack([matrix for _, matrix in members]), steps=self.newton_schulz_steps
            )
            scale = lr * ADAM_RMS * sqrt(max(shape))
            for (weight, _), update in zip(members, updates, strict=True):
                weight.sub_(update.reshape(weight.shape), alpha=scale)

    def _step_adam(self, weights: list[Tensor], *, lr: float) -> None:
        slow, fast = ADAM_BETAS[1], ADAM_BETAS[0]
        for weight in weights:
            gradient = _gradient(weight)
            mean = self._buffer(weight, "mean").lerp_(gradient, 1 - fast)
            square = self._buffer(weight, "square").lerp_(gradient.square(), 1 - slow)
            steps = self.state[weight]["step"] = self.state[weight].get("step", 0) + 1
            size = (square / (1 - slow**steps)).sqrt_().add_(EPS)
            weight.addcdiv_(mean, size, value=-lr / (1 - fast**steps))

    def _buffer(self, weight: Tensor, name: str) -> Tensor:
        state = self.state[weight]
        if name not in state:
            state[name] = torch.zeros_like(weight)
        return state[name]


def orthogonalised(
    matrices: Float[Tensor, "matrix row column"], *, steps: int = NEWTON_SCHULZ_STEPS
) -> Float[Tensor, "matrix row column"]:
    """U Vᵀ of each matrix U S Vᵀ, roughly: singular values end between 0.7 and 1.2.

    Cost: 3 products of the smaller side per step. A matrix of zeros stays one.
    """
    a, b, c = NEWTON_SCHULZ
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if tall else matrices
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp_min(1e-7)  # all singular values ≤ 1
    for _ in range(steps):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if tall else x


def muon(
    named_weights: Iterable[tuple[str, nn.Parameter]],
    *,
    lr: float,
    weight_decay: float,
    momentum: float,
    newton_schulz_steps: int = NEWTON_SCHULZ_STEPS,
) -> Muon:
    """Muon for hidden matrices and convolution filters; AdamW for the head, biases and norms.

    The head is the last matrix: its rows are the classes, which are no directions to be equalised.
    """
    weights = [weight for _, weight in named_weights if weight.requires_grad]
    matrices = [weight for weight in weights if weight.ndim >= 2]
    vectors = [weight for weight in weights if weight.ndim < 2]
    groups: list[dict[str, Any]] = [
        {"name": "weights", "params": matrices[:-1], "orthogonal": True},
        {"name": "head", "params": matrices[-1:]},
        {"name": "biases and norms", "params": vectors, "weight_decay": 0.0},
    ]
    filled = [{"weight_decay": weight_decay} | group for group in groups if group["params"]]
    return lean(Muon)(filled, lr=lr, momentum=momentum, newton_schulz_steps=newton_schulz_steps)


def _gradient(weight: Tensor) -> Tensor:
    assert weight.grad is not None
    return weight.grad
