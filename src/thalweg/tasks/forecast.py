"""The values of a series at the next steps, with a band: quantiles by the pinball loss.

Outputs and targets are scaled: an error of 1 is that of the seasonal naive forecast in training, so
that the mean absolute error is MASE (Hyndman & Koehler 2006, Int. J. Forecasting 22). The last two
columns of the targets are the series' location and scale, which give its unit back. A missing
target is NaN, and counts nowhere.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import nan

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from thalweg.errors import UsageError
from thalweg.recipes.recipe import TaskRecipe
from thalweg.registry import Registry
from thalweg.tasks.task import (
    Labels,
    Prediction,
    Readout,
    TargetFacts,
    Targets,
    Task,
    TaskType,
)

NAME = "forecast"
QUANTILES = (0.1, 0.5, 0.9)
MEDIAN = len(QUANTILES) // 2
BAND = QUANTILES[-1] - QUANTILES[0]  # share of the values that the band is to hold
LEAST = 1e-12  # of a denominator


def pinball(
    outputs: Float[Tensor, "window output"], targets: Float[Tensor, "window longer"]
) -> Float[Tensor, ""]:
    """Twice the mean quantile loss over all steps and quantiles: |error| for the median.

    Source: Koenker & Bassett 1978 (Econometrica 46).
    """
    quantiles = _quantiles(outputs)
    values = targets[:, :-2, None]
    levels = torch.tensor(QUANTILES, device=outputs.device)
    errors = torch.nan_to_num(values) - quantiles
    losses = 2 * torch.maximum(levels * errors, (levels - 1) * errors)
    return _mean(losses, values.isfinite().expand_as(losses))


def absolute(
    outputs: Float[Tensor, "window output"], targets: Float[Tensor, "window longer"]
) -> Float[Tensor, ""]:
    """The mean absolute error of the median alone: the band is not trained."""
    errors = torch.nan_to_num(targets[:, :-2]) - _median(outputs)
    return _mean(errors.abs(), targets[:, :-2].isfinite())


FORECAST_LOSSES: Registry[Callable[..., Tensor]] = Registry("loss", (pinball, absolute))


def _mean(losses: Tensor, counted: Tensor) -> Tensor:
    """The mean where `counted` is True; 0 where it is nowhere."""
    return torch.where(counted, losses, 0.0).sum() / counted.sum().clamp_min(1)


def _quantiles(outputs: Float[Tensor, "window output"]) -> Float[Tensor, "window step quantile"]:
    return outputs.float().unflatten(1, (-1, len(QUANTILES)))


def _median(outputs: Float[Tensor, "window output"]) -> Float[Tensor, "window step"]:
    return _quantiles(outputs)[:, :, MEDIAN]


def _known_mean(values: Tensor) -> float:
    """The mean of what is not NaN; NaN where nothing is."""
    return values.double().nanmean().item()


def _errors(outputs: Tensor, targets: Tensor) -> Tensor:
    """|value − median| in scaled units, NaN where the value is missing."""
    return (targets[:, :-2].double() - _median(outputs).double()).abs()


def mase(outputs: Tensor, targets: Tensor) -> float:
    """The mean absolute error, in those of the seasonal naive forecast of the training part."""
    return _known_mean(_errors(outputs, targets))


def mae(outputs: Tensor, targets: Tensor) -> float:
    """The mean absolute error in the unit of the series."""
    return _known_mean(_errors(outputs, targets) * targets[:, -1:].double())


def rmse(outputs: Tensor, targets: Tensor) -> float:
    """The root of the mean squared error in the unit of the series."""
    return _known_mean((_errors(outputs, targets) * targets[:, -1:].double()).square()) ** 0.5


def smape(outputs: Tensor, targets: Tensor) -> float:
    """The mean of |error| divided by the mean of |value| and |forecast|: 0 to 2."""
    values, forecasts = (in_units(part, targets) for part in (targets[:, :-2], _median(outputs)))
    size = (values.abs() + forecasts.abs()) / 2
    return _known_mean((values - forecasts).abs() / size.clamp_min(LEAST))


def coverage(outputs: Tensor, targets: Tensor) -> float:
    """The share of the values that lie in the band."""
    quantiles, values = _quantiles(outputs), targets[:, :-2]
    inside = (values >= quantiles[:, :, 0]) & (values <= quantiles[:, :, -1])
    return _known_mean(torch.where(values.isfinite(), inside.double(), nan))


def in_units(values: Tensor, targets: Tensor) -> Tensor:
    """Scaled values of windows, or quantiles of each step, in the unit of their series."""
    shape = (-1,) + (1,) * (values.ndim - 1)
    location, scale = targets[:, -2].double(), targets[:, -1].double()
    return values.double() * scale.reshape(shape) + location.reshape(shape)


@dataclass(frozen=True, slots=True)
class Steps:
    """The steps of a forecast, decoded and read."""

    horizon: int

    def decode(self, outputs: Float[Tensor, "window output"]) -> Tensor:
        """The quantiles of each step in scaled units, in order: [window, step, quantile]."""
        return _quantiles(outputs).sort(dim=2).values

    def predict(
        self, quantiles: Float[Tensor, "step quantile"], class_names: Sequence[str]
    ) -> Prediction:
        """The medians of the steps as text; the number itself where there is one step."""
        medians = quantiles[:, MEDIAN]
        value = medians.item() if self.horizon == 1 else nan
        return Prediction(listing(medians), 1.0, {}, value)

    def readout(
        self,
        outputs: Float[Tensor, "window output"],
        targets: Float[Tensor, "window longer"],
        class_names: Sequence[str],
    ) -> Readout:
        """The values of each window beside their forecasts, in the unit of the series."""
        values, forecasts = (
            [listing(row) for row in in_units(part, targets)]
            for part in (targets[:, :-2], _median(outputs))
        )
        worst = torch.nan_to_num(_errors(outputs, targets)).mean(1).argsort(descending=True)
        return Readout(values, forecasts, [nan] * len(targets), worst.tolist())


def listing(values: Tensor) -> str:
    """Numbers of six digits, separated by commas; a dash for a missing one."""
    return ", ".join("–" if value != value else f"{value:.6g}" for value in values.tolist())


def forecast(horizon: int, *, loss: str = "pinball") -> Task:
    """The next `horizon` values of a series, each with a band that is to hold 80 % of them.

    Raises: UsageError for no step.
    """
    if horizon < 1:
        raise UsageError("a forecast has at least one step", seen=f"horizon={horizon}", fix="1")
    steps = Steps(horizon)
    return Task(
        name=NAME,
        loss_fn=FORECAST_LOSSES[loss],
        outputs=horizon * len(QUANTILES),
        chance_loss=nan,
        metrics={"mase": mase, "mae": mae, "rmse": rmse, "smape": smape, "band_coverage": coverage},
        headline="mase",
        lower_is_better=True,
        predicted=_median,
        decode=steps.decode,
        predict=steps.predict,
        read=steps.readout,
    )


def series_targets(labels: Labels | np.ndarray, place: str) -> Targets | None:
    """The first value of each window, float32 [n, 1]; None for anything else."""
    if not isinstance(labels, np.ndarray) or labels.ndim != 2 or labels.dtype.kind != "f":
        return None
    return Targets(task=NAME, values=labels)


def build(facts: TargetFacts, recipe: TaskRecipe) -> Task:
    """The task for the horizon of the data."""
    return forecast(facts.horizon, loss="pinball" if recipe.loss == "auto" else recipe.loss)


FORECAST = TaskType(
    name=NAME,
    answers="steps",
    targets=series_targets,
    losses=FORECAST_LOSSES,
    standard_loss="pinball",
    build=build,
)
