"""Simple forecasts beside a network's, on the same windows: naive, trees and lines on lags."""

from collections.abc import Mapping
from math import isfinite
from time import monotonic
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float64

from thalweg.classical.boosted_trees import fit_boosted_trees
from thalweg.data.series.windows import SeriesWindows
from thalweg.errors import MissingPackageError, TooLongError

MOST_ROWS = 20_000  # to fit the trees and the linear models with; of more, evenly spaced ones
MOST_WIDTHS = (1, 7, 28, 56)  # lags, of series without a season
OF_SEASON = (1, 4, 8)  # seasons of lags, after the last value alone
RIDGE = 1e-6  # of the mean square of the lags: only so that equal columns can be solved


class Rung(NamedTuple):
    """A linear model of so many lags, and its root mean squared errors one step ahead."""

    lags: int
    train: float
    val: float


def naive(windows: SeriesWindows, rows: np.ndarray) -> Float64[np.ndarray, "window step"]:
    """The last value before each window, scaled, for every step."""
    last = windows.past[windows.starts[rows] - 1].astype(np.float64)
    return np.repeat(last[:, None], windows.horizon, axis=1)


def seasonal_naive(windows: SeriesWindows, rows: np.ndarray) -> Float64[np.ndarray, "window step"]:
    """The values a whole number of seasons before each step, scaled: the latest that are known."""
    season = min(windows.season, windows.lags)
    steps = np.arange(windows.horizon) % season - season
    return windows.past[windows.starts[rows][:, None] + steps].astype(np.float64)


def spread_rows(rows: np.ndarray, most: int = MOST_ROWS) -> np.ndarray:
    """At most so many of the rows, evenly spaced."""
    return rows if len(rows) <= most else rows[np.linspace(0, len(rows) - 1, most).astype(int)]


def trees_on_lags(
    windows: SeriesWindows, *, train: np.ndarray, val: np.ndarray, seed: int, seconds: float
) -> tuple[Float64[np.ndarray, "window step"] | None, Mapping[str, Any]]:
    """Gradient-boosted trees that forecast step by step from their own forecasts, scaled.

    They see the lags relative to the last value, and learn the next one relative to it, so that a
    trend does not leave their range. Returns their forecasts, and how they were fitted; None and
    the reason where they were not.
    """
    start = monotonic()
    rows = spread_rows(train)
    batch = windows.at(rows)
    inputs, targets = _with_plain_lags(windows, batch), batch["targets"][:, 0]
    has_value = np.isfinite(targets)
    relative, last = _relative(inputs, windows.lags)
    try:
        model = fit_boosted_trees(
            relative[has_value],
            (targets - last)[has_value],
            is_classification=False,
            seed=seed,
            seconds=seconds,
        )
    except TooLongError as error:
        longer = f"--evaluation.trees_seconds {max(2, round(2 * error.seconds))}"
        return None, {"reason": f"their fit {error.problem}; {longer} allows it"}
    except MissingPackageError as error:
        return None, {"reason": f"{error.problem}: {error.fix}"}
    inputs = _with_plain_lags(windows, windows.at(val))
    level, steps = windows.levels(val), []
    for step in range(windows.horizon):
        relative, last = _relative(inputs, windows.lags)
        forecast = (model.predict(relative) + last).astype(np.float32)
        steps.append(forecast + level)
        past = np.concatenate((inputs[:, 1 : windows.lags], forecast[:, None]), axis=1)
        at = np.minimum(windows.starts[val] + step + 1, len(windows.places) - 1)
        inputs = np.concatenate((past, windows.places[at]), axis=1)
    facts = {"rounds": int(model.n_iter_), "seconds": monotonic() - start}
    return np.stack(steps, axis=1).astype(np.float64), facts


def _with_plain_lags(windows: SeriesWindows, batch: Mapping[str, np.ndarray]) -> np.ndarray:
    """The lags in the unit of the targets, and the places in the calendar."""
    inputs = batch["inputs"]
    return np.concatenate(
        (inputs[:, : windows.lags] * np.exp(inputs[:, -1:]), inputs[:, windows.lags : -1]), axis=1
    )


def _relative(inputs: np.ndarray, lags: int) -> tuple[np.ndarray, np.ndarray]:
    """The inputs with the last value taken from each lag, and that value."""
    last = inputs[:, lags - 1]
    both = (inputs[:, :lags] - last[:, None], last[:, None], inputs[:, lags:])
    return np.concatenate(both, axis=1), last


def lag_widths(season: int, longest: int) -> tuple[int, ...]:
    """The numbers of lags of a ladder: 1, then one, four and eight seasons, or 7, 28 and 56.

    At most half of the training part's values.
    """
    widths = (1, *(season * times for times in OF_SEASON)) if season > 1 else MOST_WIDTHS
    return tuple(dict.fromkeys(width for width in widths if width <= longest // 2))


def lag_ladder(windows: SeriesWindows) -> list[Rung]:
    """Linear models of ever more lags, one step ahead: the errors in training and validation.

    The training error falls with each lag, the validation error only while they tell of the
    future. All are fitted to the same values, in the scaled unit.
    """
    border = windows.borders[0]
    longest = max((min(one.end, border) - one.begin for one in windows.series), default=0)
    widths = lag_widths(windows.season, longest)
    if not widths:
        return []
    train, val = _origins(windows, widths[-1])
    if len(train) < 2 * len(widths) or not len(val):
        return []
    rungs = []
    for width in widths:
        if len(train) <= width + 1:
            break
        weights = _least_squares(_lags(windows, train, width), windows.future[train])
        errors = [
            windows.future[part] - _lags(windows, part, width) @ weights for part in (train, val)
        ]
        scores = [float(np.sqrt(np.square(error.astype(np.float64)).mean())) for error in errors]
        if all(map(isfinite, scores)):
            rungs.append(Rung(width, *scores))
    return rungs


def _origins(windows: SeriesWindows, width: int) -> tuple[np.ndarray, np.ndarray]:
    """The places of known values in training and validation with so many before them."""
    parts: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
    val, test = windows.borders
    for one, offset in zip(windows.series, windows.offsets, strict=True):
        positions = np.arange(one.begin + width, one.end)
        has_value = np.isfinite(windows.future[positions - one.begin + offset])
        for part, chosen in zip(
            parts, (positions < val, (positions >= val) & (positions < test)), strict=True
        ):
            part.append(positions[has_value & chosen] - one.begin + offset)
    train, held = (spread_rows(np.concatenate(part)) for part in parts)
    return train, held


def _lags(windows: SeriesWindows, places: np.ndarray, width: int) -> np.ndarray:
    """float64 [n, width + 1]: the values before each place, and a one."""
    lags = windows.past[places[:, None] + np.arange(-width, 0)].astype(np.float64)
    return np.concatenate((lags, np.ones((len(lags), 1))), axis=1)


def _least_squares(inputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
    gram = inputs.T @ inputs
    gram[np.diag_indices_from(gram)] += RIDGE * np.trace(gram) / len(gram)
    return np.asarray(np.linalg.solve(gram, inputs.T @ targets.astype(np.float64)))
