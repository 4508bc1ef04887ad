"""Symmetric linear operators, defined by their products with vectors."""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from thalweg.curvature.errors import LossNotFiniteError


@dataclass(slots=True)
class Operator:
    """A symmetric matrix too large to store: a call with a vector returns their product."""

    multiply: Callable[[Tensor], Tensor]
    size: int
    dtype: torch.dtype
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    products: int = 0  # so far: the unit of cost of all algorithms

    def __call__(self, vector: Float[Tensor, " weights"]) -> Float[Tensor, " weights"]:
        """Compute the product in float64. Raises: LossNotFiniteError on NaN or infinity."""
        self.products += 1
        product = self.multiply(vector.to(self.dtype)).double()
        if not bool(product.isfinite().all()):
            raise LossNotFiniteError(
                "a product with the Hessian is not finite",
                seen=f"product {self.products} of {self.size:,} numbers contains NaN or infinity",
                fix="look for a square root, a norm or a logarithm at zero, whose second "
                "derivative is infinite, or measure in dtype=torch.float64",
            )
        return product


def dense_matrix(operator: Operator) -> Float[Tensor, "weights weights"]:
    """The whole matrix in float64, one product per column, symmetrised."""
    matrix = torch.empty(operator.size, operator.size, dtype=torch.float64, device=operator.device)
    unit = torch.zeros(operator.size, dtype=torch.float64, device=operator.device)
    for i in range(operator.size):
        unit[i] = 1.0
        matrix[i] = operator(unit)
        unit[i] = 0.0
    return (matrix + matrix.T) / 2


def matrix_operator(matrix: Float[Tensor, "weights weights"]) -> Operator:
    """The operator of a matrix in memory."""
    return Operator(lambda v: matrix @ v, len(matrix), matrix.dtype, matrix.device)
