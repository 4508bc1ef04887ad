"""Stochastic depth: drop a residual branch at random, separately for each sample.

Source: Huang et al. 2016, https://arxiv.org/abs/1603.09382.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn


class DropPath(nn.Module):
    """Zero the branch with probability `rate` per sample; scale it to preserve its mean."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, branch: Float[Tensor, " batch *rest"]) -> Float[Tensor, " batch *rest"]:
        if not self.training or self.rate == 0:
            return branch
        shape = (len(branch),) + (1,) * (branch.ndim - 1)
        mask = torch.rand(shape, device=branch.device) >= self.rate
        return branch * (mask / (1 - self.rate)).to(branch.dtype)


def depth_rates(rate: float, depth: int) -> list[float]:
    """Drop rates that rise linearly from 0 at the first block to `rate` at the last."""
    return [rate * index / max(depth - 1, 1) for index in range(depth)]
