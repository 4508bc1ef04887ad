"""The table of norms: batch, layer, instance, group. They differ in the axes they average over.

For an input of batch × channel × height × width: batch norm averages over (0, 2, 3), layer norm
over (1, 2, 3), instance norm over (2, 3), group norm over (2, 3) and a group of channels.
Source: Wu & He 2018, https://arxiv.org/abs/1803.08494, figure 2.
"""

from collections.abc import Sequence
from math import gcd

from jaxtyping import Float
from torch import Tensor, nn

from thalweg.errors import UsageError
from thalweg.registry import Registry

GROUPS = 32  # Wu & He's default


def standardised(
    inputs: Float[Tensor, "*shape"], *, axes: Sequence[int], eps: float = 1e-5
) -> Float[Tensor, "*shape"]:
    """(x − mean) / √(variance + eps) over `axes`: what all four norms do before γ and β."""
    mean = inputs.mean(tuple(axes), keepdim=True)
    variance = inputs.var(tuple(axes), correction=0, keepdim=True)
    return (inputs - mean) / (variance + eps).sqrt()


def batch(channels: int, *, dims: int = 2) -> nn.Module:
    """Per channel over the batch; in evaluation by running averages. Samples see each other."""
    return nn.BatchNorm2d(channels) if dims else nn.BatchNorm1d(channels)


def layer(channels: int, *, dims: int = 2) -> nn.Module:
    """Per sample over everything: as good at batch size 1 as at 1000."""
    return nn.GroupNorm(1, channels) if dims else nn.LayerNorm(channels)


def instance(channels: int, *, dims: int = 2) -> nn.Module:
    """Per sample and channel over the positions; needs positions."""
    if dims:
        return nn.InstanceNorm2d(channels, affine=True)
    raise UsageError(
        "instance norm needs positions to average over",
        seen="vectors: one value per channel, which it would make 0",
        fix="norm=layer or norm=batch",
    )


def group(channels: int, *, dims: int = 2) -> nn.Module:
    """Per sample over groups of channels: 32 groups, or as many as divide the channels."""
    return nn.GroupNorm(gcd(GROUPS, channels), channels)


def none(channels: int, *, dims: int = 2) -> nn.Module:
    """No norm at all."""
    return nn.Identity()


NORMS = Registry("norm", (batch, layer, instance, group, none))
