"""The table of normalisation layers, which differ in the axes that they average over.

For an input of batch × channel × height × width: batch norm averages over (0, 2, 3), layer norm
over (1, 2, 3), instance norm over (2, 3), group norm over (2, 3) and a group of channels.
Source: Wu & He 2018, https://arxiv.org/abs/1803.08494, figure 2.
"""

from math import gcd

from torch import nn

from thalweg.errors import UsageError
from thalweg.registry import Registry

GROUPS = 32  # Wu & He's default


def batch(channels: int, *, dims: int = 2) -> nn.Module:
    """Average per channel over the batch, so that samples depend on each other.

    Evaluation uses running averages.
    """
    return nn.BatchNorm2d(channels) if dims else nn.BatchNorm1d(channels)


def layer(channels: int, *, dims: int = 2) -> nn.Module:
    """Average per sample over everything: works at any batch size."""
    return nn.GroupNorm(1, channels) if dims else nn.LayerNorm(channels)


def instance(channels: int, *, dims: int = 2) -> nn.Module:
    """Average per sample and channel over the positions; vectors have none."""
    if dims:
        return nn.InstanceNorm2d(channels, affine=True)
    raise UsageError(
        "instance norm needs positions to average over",
        seen="vectors: one value per channel, which would become 0",
        fix="norm=layer or norm=batch",
    )


def group(channels: int, *, dims: int = 2) -> nn.Module:
    """Average per sample over groups of channels: 32 groups, or as many as divide the channels."""
    return nn.GroupNorm(gcd(GROUPS, channels), channels)


def none(channels: int, *, dims: int = 2) -> nn.Module:
    """Leave the inputs unnormalised."""
    return nn.Identity()


NORMS = Registry("norm", (batch, layer, instance, group, none))
