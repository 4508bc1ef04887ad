"""Fully connected layers: for vectors, and the plainest model there is for small images."""

from math import prod

from jaxtyping import Float
from torch import Tensor, nn


class MLP(nn.Module):
    def __init__(
        self, *, in_features: int, width: int, depth: int, num_classes: int, dropout: float
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for index in range(depth):
            layers += [nn.Linear(in_features if index == 0 else width, width), nn.ReLU()]
            layers += [nn.Dropout(dropout)] if dropout else []
        self.body = nn.Sequential(*layers)
        self.head = nn.Linear(width, num_classes)
        for module in self.body.modules():
            if isinstance(module, nn.Linear):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                nn.init.zeros_(module.bias)
        nn.init.normal_(self.head.weight, std=0.01)  # nearly undecided: the first loss is chance
        nn.init.zeros_(self.head.bias)

    def forward(self, inputs: Float[Tensor, "batch ..."]) -> Float[Tensor, "batch class"]:
        return self.head(self.body(inputs.flatten(1)))


def mlp(
    num_classes: int,
    *,
    input_shape: tuple[int, ...],
    width: int = 256,
    depth: int = 2,
    dropout: float = 0.0,
) -> MLP:
    """`depth` hidden layers of `width` rectified units.

    He initialisation (arXiv:1502.01852), which keeps the scale of signals through rectifiers.
    """
    return MLP(
        in_features=prod(input_shape),
        width=width,
        depth=depth,
        num_classes=num_classes,
        dropout=dropout,
    )
