"""A network for series: a linear map of the past, begun at the mean of past seasons, and an MLP.

The window is taken relative to its own level and spread (Kim et al. 2022, RevIN, OpenReview
cGDAkQo1C0p); a linear map of lags is a strong forecast by itself (Zeng et al. 2023, DLinear and
NLinear, https://arxiv.org/abs/2205.13504); the MLP learns what is left.
"""

from itertools import pairwise
from math import prod

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from thalweg.errors import UsageError
from thalweg.models.pieces.byte_dropout import ByteDropout

FIRST_WIDTH = -0.5  # of a band, before softplus, in spreads of the window
LARGEST = 5.0  # spreads, beyond which a lag grows ever more slowly for the MLP


class Forecaster(nn.Module):
    """Lags come first, then what is known of the time to be forecast, last the log of the spread.

    The lags are relative to the level of the window and divided by its spread.
    """

    band: Tensor
    base: Tensor

    def __init__(self, *, lags: int, plain: int, season: int, horizon: int, quantiles: int) -> None:
        super().__init__()
        self.lags, self.season = lags, min(season, lags)
        self.horizon, self.quantiles = horizon, quantiles
        self.linear = nn.Linear(lags, horizon)
        nn.init.normal_(self.linear.weight, std=0.01 / lags**0.5)
        nn.init.zeros_(self.linear.bias)
        # Not trained: weight decay pulls what is learned back to this forecast, not to zero.
        self.register_buffer("base", mean_of_seasons(lags, horizon, self.season), persistent=False)
        self.widths = nn.Parameter(torch.full((horizon * (quantiles - 1),), FIRST_WIDTH))
        # How many times as wide the bands are as trained: set after training, by validation.
        self.register_buffer("band", torch.ones(()))
        self.num_features = lags + plain
        self.body: nn.Module
        self.head: nn.Linear

    def forward(self, inputs: Float[Tensor, " batch *shape"]) -> Float[Tensor, "batch output"]:
        """The quantiles of each step, the median in the middle, in the unit of the spread."""
        flat = inputs.flatten(1)
        relative, others, spread = flat[:, : self.lags], flat[:, self.lags :], flat[:, -1:].exp()
        bounded = relative / (1 + (relative / LARGEST).square()).sqrt()
        features = torch.cat((bounded, others), dim=1)
        learned = self.head(self.body(features)).unflatten(1, (self.horizon, self.quantiles))
        median = self.linear(relative) + F.linear(relative, self.base) + learned[:, :, 0]
        widths = self.widths.unflatten(0, (self.horizon, self.quantiles - 1))
        steps = self.band * F.softplus(widths + learned[:, :, 1:])
        half = (self.quantiles - 1) // 2
        below = median[:, :, None] - steps[:, :, :half].flip(2).cumsum(2).flip(2)
        above = median[:, :, None] + steps[:, :, half:].cumsum(2)
        quantiles = torch.cat((below, median[:, :, None], above), dim=2)
        return (quantiles * spread[:, :, None]).flatten(1)


def mean_of_seasons(lags: int, horizon: int, season: int) -> Float[Tensor, "step lag"]:
    """Weights that make each step a mean of its place in the past seasons, the latest the heaviest.

    Each season weighs half as much as the one after it (exponential smoothing). Without a season
    each step is the last value.
    """
    weights = torch.zeros(horizon, lags)
    seasons = max(1, lags // season) if season > 1 else 1
    shares = torch.tensor([0.5**number for number in range(1, seasons + 1)])
    shares /= shares.sum()
    for step in range(horizon):
        for number, share in enumerate(shares, 1):
            weights[step, lags - season * number + step % season] = share
    return weights


def forecaster(
    num_classes: int,
    *,
    input_shape: tuple[int, ...],
    lags: int = 0,
    season: int = 1,
    quantiles: int = 1,
    width: int = 64,
    depth: int = 2,
    dropout: float = 0.0,
) -> Forecaster:
    """A network for series: first the `lags` past values, the latest last; then the log of spread.

    Its outputs are `quantiles` for each step, an odd number; the first forecast is the mean of the
    past seasons, of `season` steps each. `depth` hidden layers of `width` units correct it.
    """
    lags = lags or prod(input_shape) - 1
    if (
        quantiles < 1
        or quantiles % 2 == 0
        or num_classes % quantiles
        or not 0 < lags < prod(input_shape)
    ):
        raise UsageError(
            "the outputs do not fit the steps to forecast",
            seen=f"{num_classes} outputs, quantiles={quantiles}, lags={lags}",
            fix="leave lags, season and quantiles to the recipe",
        )
    model = Forecaster(
        lags=lags,
        plain=prod(input_shape) - lags,
        season=max(1, season),
        horizon=num_classes // quantiles,
        quantiles=quantiles,
    )
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise([model.num_features, *[width] * depth]):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
        layers += [ByteDropout(dropout)] if dropout else []
    model.body = nn.Sequential(*layers)
    model.head = nn.Linear(width if depth else model.num_features, num_classes)
    nn.init.normal_(model.head.weight, std=0.01)
    nn.init.zeros_(model.head.bias)
    return model
