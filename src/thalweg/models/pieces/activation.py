"""The table of activation functions.

Sources: Ramachandran et al. 2017, https://arxiv.org/abs/1710.05941, who compare them; maxout:
Goodfellow et al. 2013, https://arxiv.org/abs/1302.4389.
"""

from jaxtyping import Float
from torch import Tensor, nn

from thalweg.registry import Registry

MAXOUT_PIECES = 2  # linear functions per unit, as in the paper's fully connected networks


class Maxout(nn.Module):
    """The maximum of each `pieces` neighbouring channels: a learned convex function.

    The layer before it must be `pieces` times as wide as the output: see `widening`.
    """

    def __init__(self, pieces: int = MAXOUT_PIECES) -> None:
        super().__init__()
        self.pieces = pieces

    def forward(self, inputs: Float[Tensor, "batch wide *rest"]) -> Float[Tensor, "batch c *rest"]:
        return inputs.unflatten(1, (-1, self.pieces)).amax(dim=2)


def sigmoid() -> nn.Module:
    """1 / (1 + e^−x), in (0, 1): saturates on both sides and is not zero-centred."""
    return nn.Sigmoid()


def tanh() -> nn.Module:
    """(e^x − e^−x) / (e^x + e^−x), in (−1, 1): zero-centred, saturates."""
    return nn.Tanh()


def relu() -> nn.Module:
    """max(0, x); a unit that is negative for every input is dead."""
    return nn.ReLU(inplace=True)


def leaky_relu() -> nn.Module:
    """max(0.01 x, x): never dead."""
    return nn.LeakyReLU(inplace=True)


def prelu() -> nn.Module:
    """max(a x, x) with a learned a, initially 0.25 (He et al. 2015, arXiv:1502.01852)."""
    return nn.PReLU()


def elu() -> nn.Module:
    """x, or e^x − 1 where x < 0."""
    return nn.ELU(inplace=True)


def selu() -> nn.Module:
    """1.0507 · (x, or 1.6733 (e^x − 1) where x < 0): keeps mean 0, variance 1 with LeCun init."""
    return nn.SELU(inplace=True)


def silu() -> nn.Module:
    """x · sigmoid(x), also called Swish."""
    return nn.SiLU(inplace=True)


def gelu() -> nn.Module:
    """x · Φ(x), where Φ is the normal distribution function (not its density)."""
    return nn.GELU()


def maxout() -> nn.Module:
    """The larger of two linear functions per unit; the layer before must be twice as wide."""
    return Maxout()


ACTIVATIONS = Registry(
    "activation", (relu, gelu, silu, leaky_relu, prelu, elu, selu, tanh, sigmoid, maxout)
)


def widening(activation: str) -> int:
    """Input channels of the activation per output channel: 1, or maxout's 2."""
    return MAXOUT_PIECES if activation == "maxout" else 1
