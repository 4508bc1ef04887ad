"""Momentum without a look ahead, in its two forms."""

from collections.abc import Iterable

import torch
from torch import nn

from thalweg.optim.general import General, one, velocity
from thalweg.optim.groups import weight_groups
from thalweg.optim.lean import lean


def momentum(
    named_weights: Iterable[tuple[str, nn.Parameter]],
    *,
    lr: float,
    weight_decay: float,
    momentum: float,
    dampening: float = 0.0,
) -> torch.optim.SGD:
    """v = ρv + g; θ −= ηv, as PyTorch has it. Source: Polyak 1964; ρ is like friction.

    `dampening` d makes it v = ρv + (1 − d)g.
    """
    groups = weight_groups(named_weights, weight_decay=weight_decay)
    return lean(torch.optim.SGD)(groups, lr=lr, momentum=momentum, dampening=dampening, fused=True)


def momentum_velocity(
    named_weights: Iterable[tuple[str, nn.Parameter]],
    *,
    lr: float,
    weight_decay: float,
    momentum: float,
) -> General:
    """v = ρv − ηg; θ += v: Sutskever et al. 2013's form, in which v keeps the rates it met."""
    groups = weight_groups(named_weights, weight_decay=weight_decay)
    return lean(General)(groups, lr=lr, direction=velocity(momentum), size=one, decay="l2")
