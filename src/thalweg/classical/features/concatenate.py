"""Several features side by side, and features brought to one scale."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from thalweg.classical.checks import check_columns, check_vectors
from thalweg.classical.features.images import Feature, Images
from thalweg.errors import UsageError


def concatenated(*features: Feature) -> Callable[[Images], Tensor]:
    """One feature out of several: their rows side by side.

    >>> import torch
    >>> from thalweg.classical.features import colour_histogram, concatenated, hog
    >>> concatenated(hog, colour_histogram)(torch.rand(2, 3, 32, 32)).shape
    torch.Size([2, 154])
    """
    if not features:
        raise UsageError("nothing to concatenate", seen="no feature", fix="name at least one")

    def feature(images: Images) -> Tensor:
        return torch.cat([one(images) for one in features], dim=1)

    return feature


@dataclass(frozen=True, slots=True, kw_only=True)
class Standardised:
    """(x − mean) / std of the samples it was fitted on: for other samples too."""

    mean: Float[Tensor, " dim"]
    std: Float[Tensor, " dim"]

    def __call__(self, vectors: Shaped[Tensor, "sample dim"]) -> Float[Tensor, "sample dim"]:
        check_columns(vectors, dim=len(self.mean), what="vectors")
        dtype = torch.promote_types(vectors.dtype, torch.float32)
        return (vectors.to(dtype) - self.mean.to(dtype)) / self.std.to(dtype)


def standardised(vectors: Shaped[Tensor, "sample dim"], *, floor: float = 0.0) -> Standardised:
    """Fitted on these (train) vectors; constant features become 0, not NaN.

    `floor` is added to each variance.
    """
    check_vectors(vectors, "vectors")
    wide = vectors.to(torch.promote_types(vectors.dtype, torch.float32))
    variance, mean = torch.var_mean(wide, dim=0, correction=0)
    std = (variance + floor).sqrt()
    return Standardised(mean=mean, std=torch.where(std > 0, std, 1))
