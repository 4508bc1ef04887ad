"""Standardisation of features to mean 0 and variance 1."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from thalweg.classical.checks import check_columns, check_vectors


@dataclass(frozen=True, slots=True, kw_only=True)
class Standardisation:
    """The fitted map: (x − mean) / std."""

    mean: Float[Tensor, " dim"]
    std: Float[Tensor, " dim"]

    def __call__(self, vectors: Shaped[Tensor, "sample dim"]) -> Float[Tensor, "sample dim"]:
        check_columns(vectors, dim=len(self.mean), what="vectors")
        dtype = torch.promote_types(vectors.dtype, torch.float32)
        return (vectors.to(dtype) - self.mean.to(dtype)) / self.std.to(dtype)


def standardisation(
    vectors: Shaped[Tensor, "sample dim"], *, floor: float = 0.0
) -> Standardisation:
    """Fit mean and standard deviation to these (training) vectors.

    Constant features become 0, not NaN. `floor` is added to each variance.
    """
    check_vectors(vectors, "vectors")
    wide = vectors.to(torch.promote_types(vectors.dtype, torch.float32))
    variance, mean = torch.var_mean(wide, dim=0, correction=0)
    std = (variance + floor).sqrt()
    return Standardisation(mean=mean, std=torch.where(std > 0, std, 1))
