"""Heavy-ball momentum, in its two forms."""

from collections.abc import Iterable

import torch
from torch import nn

from thalweg.optim.compiler_free import compiler_free
from thalweg.optim.composable import ComposableOptimizer, one, velocity
from thalweg.optim.groups import weight_groups


def momentum(
    named_weights: Iterable[tuple[str, nn.Parameter]],
    *,
    lr: float,
    weight_decay: float,
    momentum: float,
    dampening: float = 0.0,
) -> torch.optim.SGD:
    """Run PyTorch's SGD with heavy-ball momentum: v = ρv + g; θ −= ηv.

    `dampening` d makes it v = ρv + (1 − d)g. Source: Polyak 1964.
    """
    groups = weight_groups(named_weights, weight_decay=weight_decay)
    return compiler_free(torch.optim.SGD)(
        groups, lr=lr, momentum=momentum, dampening=dampening, fused=True
    )


def momentum_velocity(
    named_weights: Iterable[tuple[str, nn.Parameter]],
    *,
    lr: float,
    weight_decay: float,
    momentum: float,
) -> ComposableOptimizer:
    """Momentum with the learning rate inside the velocity: v = ρv − ηg; θ += v.

    Unlike `momentum`, v keeps the learning rates of earlier steps. Source: Sutskever et al. 2013.
    """
    groups = weight_groups(named_weights, weight_decay=weight_decay)
    return compiler_free(ComposableOptimizer)(
        groups, lr=lr, direction=velocity(momentum), size=one, decay="l2"
    )
