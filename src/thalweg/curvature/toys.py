"""Surfaces on which every answer is known: the textbook's pictures of minima and saddles."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from thalweg.registry import Registry

Height = Callable[[Tensor], Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class CriticalFact:
    """A place where the gradient is zero, and what the Hessian's eigenvalues are there."""

    where: tuple[float, ...]
    eigenvalues: tuple[float, ...]  # ascending
    kind: str  # what the place is, which a zero eigenvalue does not tell


@dataclass(frozen=True, slots=True, kw_only=True)
class Toy:
    """A function of one or two weights, with its critical points."""

    formula: str
    height: Height
    facts: tuple[CriticalFact, ...]

    def slope(self, at: Float[Tensor, " weights"]) -> Float[Tensor, " weights"]:
        """Gradient at a place."""
        return torch.autograd.functional.jacobian(self.height, at)

    def curvature(self, at: Float[Tensor, " weights"]) -> Float[Tensor, "weights weights"]:
        """Hessian at a place."""
        return torch.autograd.functional.hessian(self.height, at)


def cubic() -> Toy:
    """x³: zero gradient and zero curvature at 0, yet neither minimum nor maximum."""
    return Toy(
        formula="x³",
        height=lambda x: x[0] ** 3,
        facts=(CriticalFact(where=(0.0,), eigenvalues=(0.0,), kind="inflection"),),
    )


def product() -> Toy:
    """(1 − w₁w₂)²: the loss of ŷ = w₁w₂x at x = y = 1; a saddle at the origin, flat valleys."""
    return Toy(
        formula="(1 − w₁w₂)²",
        height=lambda w: (1 - w[0] * w[1]) ** 2,
        facts=(
            CriticalFact(where=(0.0, 0.0), eigenvalues=(-2.0, 2.0), kind="saddle"),
            CriticalFact(where=(1.0, 1.0), eigenvalues=(0.0, 4.0), kind="valley"),
        ),
    )


def ravine(condition: float = 100.0) -> Toy:
    """½(x² + κy²): gradient descent zig-zags across while it creeps along."""
    return Toy(
        formula=f"½(x² + {condition:g}y²)",
        height=lambda x: (x[0] ** 2 + condition * x[1] ** 2) / 2,
        facts=(CriticalFact(where=(0.0, 0.0), eigenvalues=(1.0, condition), kind="minimum"),),
    )


def monkey_saddle() -> Toy:
    """x³ − 3xy²: a saddle that the Hessian cannot see: it is zero at the origin."""
    return Toy(
        formula="x³ − 3xy²",
        height=lambda x: x[0] ** 3 - 3 * x[0] * x[1] ** 2,
        facts=(CriticalFact(where=(0.0, 0.0), eigenvalues=(0.0, 0.0), kind="monkey saddle"),),
    )


def double_well() -> Toy:
    """½x² + ¼y⁴ − ½y²: a saddle at the origin between two minima."""
    return Toy(
        formula="½x² + ¼y⁴ − ½y²",
        height=lambda x: x[0] ** 2 / 2 + x[1] ** 4 / 4 - x[1] ** 2 / 2,
        facts=(
            CriticalFact(where=(0.0, 0.0), eigenvalues=(-1.0, 1.0), kind="saddle"),
            CriticalFact(where=(0.0, 1.0), eigenvalues=(1.0, 2.0), kind="minimum"),
            CriticalFact(where=(0.0, -1.0), eigenvalues=(1.0, 2.0), kind="minimum"),
        ),
    )


TOYS: Registry[Callable[[], Toy]] = Registry(
    "toy", (cubic, product, ravine, monkey_saddle, double_well)
)
