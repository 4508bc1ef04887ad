"""relu(x)², with a gradient that reads its input once.

Source: So et al. 2021, https://arxiv.org/abs/2109.08668. Written as a product, autograd multiplies
twice and adds on the way back: 4,096 × 768 in bfloat16, forward and backward, 12 ms of one core
against 8 (torch 2.13, the least of 12 interleaved pairs).
"""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


class _SquaredReLU(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return F.relu(x).square()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        if torch.is_grad_enabled():  # of the gradient there will be a gradient
            return 2 * F.relu(x) * gradient
        return F.relu(x).mul_(gradient).mul_(2)


def squared_relu(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """max(0, x)²."""
    if torch.is_grad_enabled() and x.requires_grad:
        return _SquaredReLU.apply(x)  # type: ignore[no-untyped-call]
    return F.relu(x).square()
