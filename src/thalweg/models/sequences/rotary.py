"""Rotary position embeddings: a query and a key meet at an angle that depends on their distance.

Source: Su et al. 2021, https://arxiv.org/abs/2104.09864, §3.2; a pair is one number from each half
of a head, as in GPT-NeoX.
"""

import torch
from jaxtyping import Float, Int64
from torch import Tensor

BASE = 10_000.0  # tokens per radian of the slowest pair, as in the paper


def rotations(
    positions: Int64[Tensor, " time"], dim: int, *, dtype: torch.dtype
) -> Float[Tensor, "2 time half"]:
    """Cosines and sines of each position's angles, for heads of `dim` numbers."""
    exponents = torch.arange(0, dim, 2, device=positions.device, dtype=torch.float32) / dim
    angles = positions[:, None].float() * BASE**-exponents
    return torch.stack((angles.cos(), angles.sin())).to(dtype)


def rotate(
    x: Float[Tensor, "*rows time dim"], rotation: Float[Tensor, "2 time half"]
) -> Float[Tensor, "*rows time dim"]:
    """Each pair of numbers, one from each half, turned by its position's angle."""
    cosine, sine = rotation.to(x.dtype)
    first, second = x.chunk(2, dim=-1)
    return torch.cat((first * cosine - second * sine, second * cosine + first * sine), dim=-1)
