"""RMSProp."""

from collections.abc import Iterable

import torch
from torch import nn

from thalweg.optim.groups import weight_groups


def rmsprop(
    named_weights: Iterable[tuple[str, nn.Parameter]],
    *,
    lr: float,
    weight_decay: float,
    momentum: float,
) -> torch.optim.RMSprop:
    """PyTorch's, α = 0.99; `momentum` gathers the scaled steps. Source: Hinton 2012, lecture 6e."""
    groups = weight_groups(named_weights, weight_decay=weight_decay)
    return torch.optim.RMSprop(groups, lr=lr, momentum=momentum)
