"""The interface of a residual block, which names the module at the end of its branch.

With that module's weight at zero the block starts as the identity, so that a deep network starts as
a shallow one. Source: Goyal et al. 2017, https://arxiv.org/abs/1706.02677, section 5.1.
"""

from typing import Protocol, runtime_checkable

from torch import nn


@runtime_checkable
class ResidualBlock(Protocol):
    def branch_end(self) -> nn.Module:
        """Return the last module with a weight before the addition."""
        ...
