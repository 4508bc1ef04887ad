"""Principal components (PCA), and PCA and ZCA whitening to uncorrelated features of variance 1.

PCA whitening rotates to the principal axes and scales them; ZCA rotates back, so that a whitened
image still looks like one (Bell & Sejnowski 1997, https://doi.org/10.1016/S0042-6989(97)00121-1).
Dividing each feature by its standard deviation is not whitening: correlations remain.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from thalweg.classical.checks import (
    check_columns,
    check_name,
    check_penalty,
    check_vectors,
)
from thalweg.errors import DataError, UsageError

Kind = Literal["rotate", "pca", "zca"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Whitening:
    """The fitted map: (x − mean) · matrix."""

    mean: Float[Tensor, " dim"]
    matrix: Float[Tensor, "dim output"]  # ZCA: as many outputs as inputs
    axes: Float[Tensor, "component dim"]  # the principal axes, of length 1, strongest first
    variances: Float[Tensor, " component"]  # of the data along them
    total_variance: float

    def __call__(self, vectors: Shaped[Tensor, "sample dim"]) -> Float[Tensor, "sample output"]:
        check_columns(vectors, dim=len(self.mean), what="vectors")
        dtype = torch.promote_types(vectors.dtype, torch.float32)
        return (vectors.to(dtype) - self.mean.to(dtype)) @ self.matrix.to(dtype)

    @property
    def explained(self) -> Float[Tensor, " component"]:
        """The share of the total variance along each axis."""
        return self.variances / self.total_variance


def whitening(
    vectors: Shaped[Tensor, "sample dim"],
    *,
    kind: Kind = "pca",
    components: int = 0,
    epsilon: float = 0.0,
) -> Whitening:
    """Fit whitening to these vectors: "pca", "zca", or "rotate", which is PCA without scaling.

    `components` is the number of strongest axes to use, 0 for all that vary. `epsilon` is added to
    each variance before the division: axes of less variance are damped, not amplified.
    Each axis is signed so that its largest entry is positive.
    Raises: DataError unless the samples vary; UsageError for more components than vary.
    """
    check_name(kind, ("rotate", "pca", "zca"), "whitening")
    check_penalty(epsilon, "epsilon")
    check_vectors(vectors, "vectors")
    mean = vectors.mean(0, dtype=torch.float64)
    variances, axes = _principal_axes(_covariance(vectors, mean))
    rank = _rank(variances, len(vectors), vectors.dtype)
    if rank == 0:
        raise DataError("the samples do not vary", seen=f"{len(vectors)} samples", fix="more data")
    if components > rank or components < 0:
        raise UsageError(
            "components must not exceed the number of directions in which the samples vary",
            seen=f"components={components}, {rank} directions vary",
            fix=f"components={rank}",
        )
    count = components or rank
    strongest, directions = variances[:count], axes[:count]
    matrix = directions.T
    if kind != "rotate":
        matrix = matrix / (strongest + epsilon).sqrt()
    if kind == "zca":
        matrix = matrix @ directions
    return Whitening(
        mean=mean,
        matrix=matrix,
        axes=directions,
        variances=strongest,
        total_variance=variances.sum().item(),
    )


def _covariance(vectors: Tensor, mean: Tensor) -> Tensor:
    dtype = torch.promote_types(vectors.dtype, torch.float32)
    total = torch.zeros(len(mean), len(mean), dtype=torch.float64, device=vectors.device)
    for block in vectors.split(4096):
        x = block.to(dtype) - mean.to(dtype)
        total += x.T @ x
    return total / max(len(vectors) - 1, 1)


def _principal_axes(covariance: Tensor) -> tuple[Tensor, Tensor]:
    values, vectors = torch.linalg.eigh(covariance)
    variances, axes = values.flip(0).clamp_min(0), vectors.T.flip(0)
    largest = axes.gather(1, axes.abs().argmax(1, keepdim=True))
    return variances, axes * largest.sign()


def _rank(variances: Tensor, samples: int, dtype: torch.dtype) -> int:
    precision = torch.finfo(torch.float64 if dtype == torch.float64 else torch.float32).eps
    above = (variances > variances[0] * len(variances) * precision).sum().item()
    return min(int(above), samples - 1)
