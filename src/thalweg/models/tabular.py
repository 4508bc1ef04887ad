"""A network for tables: piecewise-linear encodings of numbers, embeddings of categories, an MLP.

Source: Gorishniy et al. 2022, https://arxiv.org/abs/2203.05556 §3.2, whose networks of this kind
are on a par with gradient-boosted trees.
"""

from itertools import pairwise
from math import prod

import torch
from jaxtyping import Float
from torch import Tensor, nn

from thalweg.errors import UsageError
from thalweg.models.pieces.byte_dropout import ByteDropout

LARGEST = 3.0  # standard deviations, beyond which a number grows ever more slowly
LEAST_WIDTH = 1e-4  # standard deviations, of a bin between equal quantiles
MOST_DIMENSIONS = 32  # of an embedding


class PiecewiseLinear(nn.Module):
    """Encodes a number by the share of each bin that lies below it; bins hold equal shares."""

    edges: Tensor

    def __init__(self, numbers: int, bins: int) -> None:
        super().__init__()
        self.register_buffer("edges", torch.linspace(-2, 2, bins + 1).repeat(numbers, 1))

    def fit_to(self, numbers: Float[Tensor, "batch number"]) -> None:
        """Place the edges of the bins at the quantiles of the numbers."""
        shares = torch.linspace(0, 1, self.edges.shape[1], dtype=torch.float64)
        self.edges.copy_(torch.quantile(numbers.double().cpu(), shares, dim=0).T)

    def forward(self, numbers: Float[Tensor, "batch number"]) -> Float[Tensor, "batch feature"]:
        low, high = self.edges[:, :-1], self.edges[:, 1:]
        shares = (numbers[:, :, None] - low) / (high - low).clamp_min(LEAST_WIDTH)
        return shares.clamp(0, 1).flatten(1)


class Tabular(nn.Module):
    """Numbers come first, then further inputs, then the one-hot groups that are embedded."""

    def __init__(self, *, plain: int, numbers: int, bins: int, categories: list[int]) -> None:
        super().__init__()
        self.num_numbers, self.sizes = numbers, [plain, *categories]
        self.bins = PiecewiseLinear(numbers, bins) if bins and numbers else None
        self.embeddings = nn.ModuleList(
            nn.Linear(size, embedding_width(size), bias=False) for size in categories
        )
        self.num_features = plain + sum(map(embedding_width, categories))
        self.num_features += numbers * bins
        self.body: nn.Module
        self.head: nn.Linear

    def fit_to(self, images: Float[Tensor, " batch *shape"]) -> None:
        """Place the bins of the numbers by training rows."""
        if self.bins is not None:
            self.bins.fit_to(images.flatten(1)[:, : self.num_numbers])

    def forward(self, inputs: Float[Tensor, " batch *shape"]) -> Float[Tensor, "batch output"]:
        plain, *groups = inputs.flatten(1).split(self.sizes, dim=1)
        numbers, others = plain[:, : self.num_numbers], plain[:, self.num_numbers :]
        features = [numbers / (1 + (numbers / LARGEST).square()).sqrt(), others]
        if self.bins is not None:
            features.append(self.bins(numbers))
        features += [embed(group) for embed, group in zip(self.embeddings, groups, strict=True)]
        return self.head(self.body(torch.cat(features, dim=1)))


def embedding_width(entries: int) -> int:
    """The dimensions of an embedding by fastai's rule: 1.6 · entries^0.56."""
    return min(MOST_DIMENSIONS, round(1.6 * entries**0.56))


def tabular(
    num_classes: int,
    *,
    input_shape: tuple[int, ...],
    numbers: int = 0,
    bins: int = 0,
    categories: str = "",
    width: int = 256,
    depth: int = 2,
    dropout: float = 0.0,
) -> Tabular:
    """A network for tables, whose first inputs are `numbers` measurements.

    Each is also encoded in `bins` pieces between its quantiles in training. `categories` are the
    sizes of the last groups of inputs, as "45,120": each of these one-hot groups is embedded.
    `depth` hidden layers of `width` units follow.
    """
    sizes = [int(size) for size in categories.split(",") if size]
    plain = prod(input_shape) - sum(sizes)
    if min((numbers, bins, plain - numbers, *sizes)) < 0:
        raise UsageError(
            "the groups of inputs do not fit the table",
            seen=f"numbers={numbers}, categories={categories!r}, {prod(input_shape)} inputs",
            fix="leave numbers and categories to the recipe",
        )
    model = Tabular(plain=plain, numbers=numbers, bins=bins, categories=sizes)
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise([model.num_features, *[width] * depth]):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
        layers += [ByteDropout(dropout)] if dropout else []
    model.body = nn.Sequential(*layers)
    model.head = nn.Linear(width if depth else model.num_features, num_classes)
    nn.init.normal_(model.head.weight, std=0.01)  # near-equal logits: the first loss is chance
    nn.init.zeros_(model.head.bias)
    return model
