"""AdamW, whose weight decay shrinks the weights themselves, and Adam, whose is an L2 penalty."""

from collections.abc import Iterable

import torch
from torch import nn

from thalweg.optim.compiler_free import compiler_free
from thalweg.optim.groups import weight_groups
from thalweg.optim.lean_adamw import lean_adamw


def adamw(
    named_weights: Iterable[tuple[str, nn.Parameter]],
    *,
    lr: float,
    weight_decay: float,
    momentum: float,
    beta2: float = 0.999,
    eps: float = 1e-8,
) -> torch.optim.AdamW:
    """Run PyTorch's fused AdamW; `momentum` is β₁.

    Source: Loshchilov & Hutter 2019, https://arxiv.org/abs/1711.05101.
    """
    groups = weight_groups(named_weights, weight_decay=weight_decay)
    betas = (momentum, beta2)
    return lean_adamw()(groups, lr=lr, betas=betas, eps=eps, fused=True)


def adam(
    named_weights: Iterable[tuple[str, nn.Parameter]],
    *,
    lr: float,
    weight_decay: float,
    momentum: float,
    beta2: float = 0.999,
    eps: float = 1e-8,
) -> torch.optim.Adam:
    """Run PyTorch's fused Adam; `momentum` is β₁.

    Weights with large gradients hardly decay, unlike in adamw.

    Source: Kingma & Ba 2015, https://arxiv.org/abs/1412.6980.
    """
    groups = weight_groups(named_weights, weight_decay=weight_decay)
    betas = (momentum, beta2)
    return compiler_free(torch.optim.Adam)(groups, lr=lr, betas=betas, eps=eps, fused=True)
