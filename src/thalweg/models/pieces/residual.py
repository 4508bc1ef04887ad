"""What every residual block tells: which module ends its branch.

With that module's weight at zero the block is the identity at first, so a deep net starts as a
shallow one. Source: Goyal et al. 2017, https://arxiv.org/abs/1706.02677, section 5.1.
"""

from typing import Protocol, runtime_checkable

from torch import nn


@runtime_checkable
class ResidualBlock(Protocol):
    def branch_end(self) -> nn.Module:
        """The last module with a weight before the branch is added to the stream."""
        ...
