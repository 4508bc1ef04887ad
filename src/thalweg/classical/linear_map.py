"""What every linear fit returns: scores = inputs · weight + bias."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64, Shaped
from torch import Tensor

from thalweg.classical.checks import check_columns


@dataclass(frozen=True, slots=True, kw_only=True)
class LinearMap:
    """One column of `weight` an output: for images, the template that the class is matched with."""

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
