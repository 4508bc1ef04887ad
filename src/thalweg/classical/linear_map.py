"""The result of every linear fit: scores = inputs · weight + bias."""

from dataclasses import dataclass
from math import prod

import torch
from jaxtyping import Float, Int64, Shaped
from torch import Tensor

from thalweg.classical.checks import check_columns
from thalweg.errors import UsageError


@dataclass(frozen=True, slots=True, kw_only=True)
class LinearMap:
    """A linear map; for images each column of `weight` is the template of a class."""

    weight: Float[Tensor, "dim output"]
    bias: Float[Tensor, " output"]

    def __call__(self, inputs: Shaped[Tensor, "sample dim"]) -> Float[Tensor, "sample output"]:
        """The scores, in the wider of the inputs' and float32 precision."""
        check_columns(inputs, dim=len(self.weight), what="inputs")
        dtype = torch.promote_types(inputs.dtype, torch.float32)
        return torch.addmm(self.bias.to(dtype), inputs.to(dtype), self.weight.to(dtype))

    def predict(self, inputs: Shaped[Tensor, "sample dim"]) -> Int64[Tensor, " sample"]:
        """The class of the highest score."""
        return self(inputs).argmax(dim=1)

    def templates(self, shape: tuple[int, int, int]) -> Float[Tensor, "output channel y x"]:
        """Each output's weights as an image (channels, y, x), scaled to 0…1.

        Raises: UsageError unless the shape has one number per feature.
        """
        if prod(shape) != len(self.weight):
            raise UsageError(
                "a template has one number per feature",
                seen=f"{shape}: {prod(shape)} numbers, {len(self.weight)} features",
                fix="the (channels, height, width) of the images before they were flattened",
            )
        images = self.weight.T.reshape(-1, *shape)
        lowest, highest = images.amin((1, 2, 3), keepdim=True), images.amax((1, 2, 3), keepdim=True)
        return (images - lowest) / torch.where(highest > lowest, highest - lowest, 1)
