"""A multilayer perceptron: for vectors, and the simplest model for small images."""

from math import prod

from jaxtyping import Float
from torch import Tensor, nn

from thalweg.models.pieces.activation import ACTIVATIONS, widening
from thalweg.models.pieces.initialise import initialise
from thalweg.models.pieces.norm import NORMS


class MLP(nn.Module):
    def __init__(self, body: nn.Sequential, head: nn.Linear, *, init: str) -> None:
        super().__init__()
        self.body = body
        self.head = head
        initialise(body, init)
        nn.init.normal_(head.weight, std=0.01)  # near-equal logits: the first loss is chance
        nn.init.zeros_(head.bias)

    def forward(self, inputs: Float[Tensor, " batch *shape"]) -> Float[Tensor, "batch class"]:
        return self.head(self.body(inputs.flatten(1)))


def mlp(
    num_classes: int,
    *,
    input_shape: tuple[int, ...],
    width: int = 256,
    depth: int = 2,
    dropout: float = 0.0,
    activation: str = "relu",
    norm: str = "none",
    init: str = "he",
) -> MLP:
    """A multilayer perceptron has `depth` hidden layers of `width` units.

    The default He initialisation (arXiv:1502.01852) keeps the scale of signals through ReLUs.
    `activation`, `norm` and `init` take any name in the tables of `models.pieces`.
    """
    layers: list[nn.Module] = []
    outputs = width * widening(activation)
    for index in range(depth):
        layers += [nn.Linear(width if index else prod(input_shape), outputs)]
        layers += [] if norm == "none" else [NORMS[norm](outputs, dims=0)]
        layers += [ACTIVATIONS[activation]()]
        layers += [nn.Dropout(dropout)] if dropout else []
    head = nn.Linear(width if depth else prod(input_shape), num_classes)
    return MLP(nn.Sequential(*layers), head, init=init)
