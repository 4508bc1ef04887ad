"""Toy surfaces with minima and saddles in closed form, for tests and experiments."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from thalweg.registry import Registry

Height = Callable[[Tensor], Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class ToyPoint:
    """A critical point of a toy surface with the Hessian's eigenvalues there."""

    position: tuple[float, ...]
    eigenvalues: tuple[float, ...]  # ascending
    kind: str  # a zero eigenvalue does not determine it


@dataclass(frozen=True, slots=True, kw_only=True)
class Toy:
    """A function of one or two weights, with its critical points."""

    formula: str
    height: Height
    critical_points: tuple[ToyPoint, ...]

    def gradient(self, point: Float[Tensor, " weights"]) -> Float[Tensor, " weights"]:
        """Gradient at a point."""
        return torch.autograd.functional.jacobian(self.height, point)

    def hessian(self, point: Float[Tensor, " weights"]) -> Float[Tensor, "weights weights"]:
        """Hessian at a point."""
        return torch.autograd.functional.hessian(self.height, point)


def cubic() -> Toy:
    """x³: zero gradient and zero curvature at 0, yet neither minimum nor maximum."""
    return Toy(
        formula="x³",
        height=lambda x: x[0] ** 3,
        critical_points=(ToyPoint(position=(0.0,), eigenvalues=(0.0,), kind="inflection"),),
    )


def product() -> Toy:
    """(1 − w₁w₂)²: the loss of ŷ = w₁w₂x at x = y = 1; a saddle at the origin, flat valleys."""
    return Toy(
        formula="(1 − w₁w₂)²",
        height=lambda w: (1 - w[0] * w[1]) ** 2,
        critical_points=(
            ToyPoint(position=(0.0, 0.0), eigenvalues=(-2.0, 2.0), kind="saddle"),
            ToyPoint(position=(1.0, 1.0), eigenvalues=(0.0, 4.0), kind="valley"),
        ),
    )


def ravine(condition: float = 100.0) -> Toy:
    """½(x² + κy²): gradient descent zigzags across and creeps along."""
    return Toy(
        formula=f"½(x² + {condition:g}y²)",
        height=lambda x: (x[0] ** 2 + condition * x[1] ** 2) / 2,
        critical_points=(
            ToyPoint(position=(0.0, 0.0), eigenvalues=(1.0, condition), kind="minimum"),
        ),
    )


def monkey_saddle() -> Toy:
    """x³ − 3xy²: a saddle whose Hessian is zero at the origin."""
    return Toy(
        formula="x³ − 3xy²",
        height=lambda x: x[0] ** 3 - 3 * x[0] * x[1] ** 2,
        critical_points=(
            ToyPoint(position=(0.0, 0.0), eigenvalues=(0.0, 0.0), kind="monkey saddle"),
        ),
    )


def double_well() -> Toy:
    """½x² + ¼y⁴ − ½y²: a saddle at the origin between two minima."""
    return Toy(
        formula="½x² + ¼y⁴ − ½y²",
        height=lambda x: x[0] ** 2 / 2 + x[1] ** 4 / 4 - x[1] ** 2 / 2,
        critical_points=(
            ToyPoint(position=(0.0, 0.0), eigenvalues=(-1.0, 1.0), kind="saddle"),
            ToyPoint(position=(0.0, 1.0), eigenvalues=(1.0, 2.0), kind="minimum"),
            ToyPoint(position=(0.0, -1.0), eigenvalues=(1.0, 2.0), kind="minimum"),
        ),
    )


TOYS: Registry[Callable[[], Toy]] = Registry(
    "toy", (cubic, product, ravine, monkey_saddle, double_well)
)
