"""Adam, whose weight decay is an L2 penalty."""

from collections.abc import Iterable

import torch
from torch import nn

from thalweg.optim.groups import weight_groups
from thalweg.optim.lean import lean


def adam(
    named_weights: Iterable[tuple[str, nn.Parameter]],
    *,
    lr: float,
    weight_decay: float,
    momentum: float,
    beta2: float = 0.999,
    eps: float = 1e-8,
) -> torch.optim.Adam:
    """PyTorch's fused Adam; `momentum` is β₁. Weights with large gradients hardly decay: see adamw.

    Source: Kingma & Ba 2015, https://arxiv.org/abs/1412.6980.
    """
    groups = weight_groups(named_weights, weight_decay=weight_decay)
    return lean(torch.optim.Adam)(groups, lr=lr, betas=(momentum, beta2), eps=eps, fused=True)
