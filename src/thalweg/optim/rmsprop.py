"""RMSProp: steps divided by a running root mean square of the gradient."""

from collections.abc import Iterable

import torch
from torch import nn

from thalweg.optim.compiler_free import compiler_free
from thalweg.optim.groups import weight_groups


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
    """Run PyTorch's RMSProp; `momentum` accumulates the scaled steps.

    `alpha` is the decay of the average of squared gradients; `centered` divides by their standard
    deviation instead. Source: Hinton 2012, lecture 6e.
    """
    groups = weight_groups(named_weights, weight_decay=weight_decay)
    return compiler_free(torch.optim.RMSprop)(
        groups, lr=lr, momentum=momentum, alpha=alpha, eps=eps, centered=centered
    )
