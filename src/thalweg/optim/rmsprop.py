"""RMSProp."""

from collections.abc import Iterable

import torch
from torch import nn

from thalweg.optim.groups import weight_groups
from thalweg.optim.lean import lean


def rmsprop(
    named_weights: Iterable[tuple[str, nn.Parameter]],
    *,
    lr: float,
    weight_decay: float,
    momentum: float,
    alpha: float = 0.99,
    eps: float = 1e-8,
    centered: bool = False,
) -> torch.optim.RMSprop:
    """PyTorch's; `momentum` gathers the scaled steps. Source: Hinton 2012, lecture 6e.

    `alpha` is what the average of squares keeps; `centered` divides by a standard deviation.
    """
    groups = weight_groups(named_weights, weight_decay=weight_decay)
    return lean(torch.optim.RMSprop)(
        groups, lr=lr, momentum=momentum, alpha=alpha, eps=eps, centered=centered
    )
