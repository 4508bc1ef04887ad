"""The outcome of a run of series beside its scores: rivals, bands, each series, next steps."""

from collections.abc import Mapping, Sequence
from math import nan, sqrt
from typing import Any

import numpy as np
import torch
from jaxtyping import Float64
from torch import nn

from thalweg.borrow import preserve_modes
from thalweg.data.series.windows import SeriesWindows
from thalweg.inference.forecast import Forecast, forecast_series
from thalweg.inference.saved_model import SavedModel
from thalweg.models.forecaster import Forecaster
from thalweg.planning.plan import Plan
from thalweg.runs.forecast_rivals import lag_ladder, naive, seasonal_naive, trees_on_lags
from thalweg.tasks import TASKS
from thalweg.tasks.forecast import BAND, MEDIAN, QUANTILES
from thalweg.training.evaluate import Evaluation

NETWORK, NAIVE, SEASONAL, TREES = "this network", "naive", "seasonal naive", "boosted trees on lags"
LEAST_WINDOWS = 8  # to widen bands by
LEAST_BLOCKS = 4  # of windows without common targets, for an interval of a difference
ONE_SIDED = 1.645  # standard errors: 95 %
MOST_SERIES = 40  # listed
DRAWN = 3  # series
HISTORY = 6  # horizons of the past that are drawn, and at least so many lags once

Errors = Float64[np.ndarray, "window step"]  # |value − forecast|, scaled; NaN where it is missing


def forecast_outcome(
    plan: Plan, model: nn.Module, evaluation: Evaluation, *, seconds: float
) -> dict[str, Any] | None:
    """Widen the model's bands by validation, and compare it with simple forecasts.

    None for another task. The trees take at most the recipe's seconds, and `seconds`.
    """
    if TASKS[plan.dataset.facts.task].answers != "steps":
        return None
    windows: SeriesWindows = plan.dataset.inputs
    val = plan.dataset.indices["val"]
    level = windows.levels(val)[:, None]
    quantiles = evaluation.logits.double().unflatten(1, (-1, len(QUANTILES))).numpy()
    quantiles += level[:, :, None]
    values = evaluation.targets.double().numpy()[:, :-2] + level
    median = quantiles[:, :, MEDIAN]
    forecasts = {NETWORK: median, NAIVE: naive(windows, val)}
    if windows.season > 1:
        forecasts[SEASONAL] = seasonal_naive(windows, val)
    trees, about_trees = _trees(plan, seconds=seconds)
    if trees is not None:
        forecasts[TREES] = trees
    errors = {name: np.abs(values - forecast) for name, forecast in forecasts.items()}
    bands = _widen(model, quantiles, values)
    scores = [
        _scores(windows, val, name, values=values, forecast=f) for name, f in forecasts.items()
    ]
    rival = min(
        (NAIVE, SEASONAL) if SEASONAL in errors else (NAIVE,), key=lambda n: _mean(errors[n])
    )
    return {
        "scores": sorted(scores, key=lambda row: row["mase"]),
        "windows": len(val),
        "rival": rival,
        "verdict": _verdict(windows, val, errors[rival] - errors[NETWORK]),
        "trees": about_trees,
        "steps": {name: _by_step(errors[name]) for name in errors},
        "bands": bands,
        "series": _each_series(windows, val, errors, rival=rival),
        "ladder": _ladder(windows, errors[NETWORK]),
        "picture": _picture(plan, model, quantiles, factor=bands["factor"]),
    }


def _trees(plan: Plan, *, seconds: float) -> tuple[np.ndarray | None, Mapping[str, Any]]:
    most = plan.recipe.evaluation.trees_seconds
    if not most or seconds <= 0:
        return None, {"reason": "" if not most else "the time was up"}
    dataset = plan.dataset
    return trees_on_lags(
        dataset.inputs,
        train=dataset.indices["train"],
        val=dataset.indices["val"],
        seed=plan.recipe.seed,
        seconds=min(most, seconds),
    )


def _mean(values: np.ndarray) -> float:
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if len(finite) else nan


def _by_step(errors: Errors) -> list[float]:
    return [_mean(column) for column in errors.T]


def _scores(
    windows: SeriesWindows, rows: np.ndarray, name: str, *, values: np.ndarray, forecast: np.ndarray
) -> dict[str, Any]:
    """MASE, and errors in the unit of the series."""
    location, scale = windows.scales_of(rows).T[:, :, None]
    error = np.abs(values - forecast)
    size = (np.abs(values * scale + location) + np.abs(forecast * scale + location)) / 2
    return {
        "name": name,
        "mase": _mean(error),
        "mae": _mean(error * scale),
        "rmse": sqrt(_mean(np.square(error * scale))),
        "smape": _mean(error * scale / np.maximum(size, 1e-12)),
    }


def _verdict(windows: SeriesWindows, rows: np.ndarray, gains: np.ndarray) -> dict[str, Any]:
    """Compare by blocks of time: windows that have targets in common are one measurement."""
    positions = np.array([windows.position(row) for row in rows.tolist()])
    blocks = (positions - positions.min()) // windows.horizon
    means = np.array([_mean(gains[blocks == block]) for block in np.unique(blocks)])
    means = means[np.isfinite(means)]
    gain = _mean(gains)
    answer = "better" if gain > 0 else "worse"
    if len(means) >= LEAST_BLOCKS:
        half = ONE_SIDED * float(means.std(ddof=1)) / sqrt(len(means))
        answer = "better" if gain > half else "worse" if gain <= 0 else "alike"
    return {"answer": answer, "gain": gain, "blocks": len(means)}


def _widen(model: nn.Module, quantiles: np.ndarray, values: np.ndarray) -> dict[str, float]:
    """Make the bands as wide as validation asks, and say how much of it they then hold.

    One factor for all steps (conformalised quantiles: Romano et al. 2019, arXiv:1905.03222). The
    share that is told is of each half of the windows with the factor of the other half.
    """
    low, median, high = (quantiles[:, :, place] for place in (0, MEDIAN, -1))
    above = (values - median) / np.maximum(high - median, 1e-9)
    below = (median - values) / np.maximum(median - low, 1e-9)
    ratio = np.where(np.isfinite(values), np.maximum(above, below), np.nan)
    trained = _mean(np.where(np.isfinite(ratio), ratio <= 1, nan))
    if len(values) < LEAST_WINDOWS or not isinstance(model, Forecaster):
        return {"trained": trained, "held": nan, "factor": 1.0}
    half = len(values) // 2
    parts = ratio[:half], ratio[half:]
    held = [
        _mean(np.where(np.isfinite(own), own <= _factor(other), nan))
        for own, other in (parts, parts[::-1])
    ]
    factor = _factor(ratio)
    model.band.fill_(factor)
    return {"trained": trained, "held": float(np.mean(held)), "factor": factor}


def _factor(ratio: np.ndarray) -> float:
    finite = ratio[np.isfinite(ratio)]
    if not len(finite):
        return 1.0
    level = min(1.0, BAND * (1 + 1 / len(finite)))
    return float(np.clip(np.quantile(finite, level), 0.1, 10.0))


def _each_series(
    windows: SeriesWindows, rows: np.ndarray, errors: Mapping[str, Errors], *, rival: str
) -> list[dict[str, Any]]:
    """MASE and the error in its unit of each series, those that lose to the rival first."""
    if len(windows.series) == 1:
        return []
    owners = windows.owners[rows]
    listed = [
        {
            "name": windows.series[owner].name,
            "mase": _mean(errors[NETWORK][owners == owner]),
            "mae": _mean(errors[NETWORK][owners == owner]) * windows.scales[owner].scale,
            "rival": _mean(errors[rival][owners == owner]),
        }
        for owner in np.unique(owners).tolist()
    ]
    return sorted(listed, key=lambda row: row["rival"] - row["mase"])[:MOST_SERIES]


def _ladder(windows: SeriesWindows, errors: Errors) -> dict[str, Any]:
    """The ladder of linear models, in the unit of the series where there is one."""
    unit = windows.scales[0].scale if len(windows.series) == 1 else 1.0
    rungs = [
        {"lags": rung.lags, "train": rung.train * unit, "val": rung.val * unit}
        for rung in lag_ladder(windows)
    ]
    first = sqrt(_mean(np.square(errors[:, 0]))) * unit
    return {"rungs": rungs, "network": first, "is_scaled": len(windows.series) > 1}


def _picture(
    plan: Plan, model: nn.Module, quantiles: np.ndarray, *, factor: float
) -> list[dict[str, Any]]:
    """The end of some series, the last validation window with its band, and the next steps."""
    windows: SeriesWindows = plan.dataset.inputs
    with preserve_modes(model), torch.inference_mode():
        model.eval()
        ahead = {one.series: one for one in forecast_series(SavedModel(model, plan.spec))}
    val = plan.dataset.indices["val"]
    pictures = []
    for owner in np.unique(windows.owners[val])[:DRAWN].tolist():
        mine = np.flatnonzero(windows.owners[val] == owner)
        last = mine[np.argmax(windows.starts[val][mine])]
        one, scale = windows.series[owner], windows.scales[owner]
        count = min(len(one.values), max(HISTORY * windows.horizon, windows.lags))
        position = windows.position(int(val[last]))
        median = quantiles[last, :, MEDIAN, None]
        widened = median + factor * (quantiles[last] - median)
        back = widened * scale.scale + scale.location
        pictures.append(
            {
                "name": one.name,
                "begin": one.end - count,
                "values": [None if v != v else v for v in one.values[-count:].tolist()],
                "stamps": _stamps(windows, one.end - count, count + windows.horizon),
                "back": {"begin": position, **_lines(back)},
                "ahead": _ahead(ahead.get(one.name), one.end),
            }
        )
    return pictures


def _stamps(windows: SeriesWindows, begin: int, count: int) -> list[list[Any]]:
    """Some positions and their stamps, for the axis."""
    places = np.unique(np.linspace(begin, begin + count - 1, 5).round().astype(int)).tolist()
    return [[place, windows.grid.text(place)] for place in places]


def _lines(quantiles: Float64[np.ndarray, "step quantile"]) -> dict[str, Sequence[float]]:
    names = (("low", 0), ("median", MEDIAN), ("high", -1))
    return {name: quantiles[:, place].tolist() for name, place in names}


def _ahead(forecast: Forecast | None, end: int) -> dict[str, Any] | None:
    if forecast is None:
        return None
    lines = {name: list(getattr(forecast, name)) for name in ("low", "median", "high")}
    return {"begin": end, **lines}
