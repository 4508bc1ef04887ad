"""Windows of series: the values before a moment, and those after it, which are to be forecast.

Only the values and the place of each window are held: two windows share the values that they have
in common.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Float64, Int8, Int64

from thalweg.data.rows import Rows
from thalweg.data.series.calendar import calendar_features
from thalweg.data.series.time_grid import TimeGrid

LEAST_SPREAD = 0.05  # of a window, in seasonal naive errors: a constant one has none
Window = dict[str, np.ndarray]  # "inputs" and "targets" of one window


class Roles(NamedTuple):
    """The columns of a table of series, by name."""

    time: tuple[str, ...]
    series: tuple[str, ...]  # those that name the series of a row; () where there is one, or wide
    values: tuple[str, ...]


class Scale(NamedTuple):
    """The location and scale of a series, in its unit, by its training part."""

    location: float  # its median
    scale: (
        float  # mean |x_t − x_{t − season}|: an error of 1 is that of the seasonal naive forecast
    )


def scale_of(train: Float64[np.ndarray, " time"], season: int) -> Scale:
    """The scale of a training part; 1 for a constant one, and for fewer than two values.

    Source: the denominator of MASE, Hyndman & Koehler 2006 (Int. J. Forecasting 22).
    """
    finite = train[np.isfinite(train)]
    if not len(finite):
        return Scale(0.0, 1.0)
    for lag in (season, 1):
        steps = np.abs(train[lag:] - train[:-lag]) if len(train) > lag else train[:0]
        steps = steps[np.isfinite(steps)]
        if len(steps) and steps.mean() > 0:
            return Scale(float(np.median(finite)), float(steps.mean()))
    return Scale(float(np.median(finite)), float(np.abs(finite).mean()) or 1.0)


def filled(values: Float64[np.ndarray, " time"], season: int) -> Float64[np.ndarray, " time"]:
    """The values with those of a season before in gaps, or else the last one: never a later one."""
    missing = np.flatnonzero(~np.isfinite(values))
    if not len(missing):
        return values
    whole = values.copy()
    first = values[np.isfinite(values)][0]
    for place in missing.tolist():
        earlier = place - season if place >= season else place - 1
        whole[place] = whole[earlier] if place else first
    return whole


def _inputs(lags: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Lags by their spread, the mean of their sizes; places in the calendar; the spread's log."""
    spread = np.abs(lags).mean(axis=1, keepdims=True) + LEAST_SPREAD
    return np.concatenate((lags / spread, places, np.log(spread)), axis=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class OneSeries:
    """A series on the grid: its name, the grid's position of its first value, its values."""

    name: str
    begin: int
    values: Float64[np.ndarray, " time"]  # in its unit; NaN where there is none

    @property
    def end(self) -> int:
        """The position after the last value."""
        return self.begin + len(self.values)


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesWindows(Rows[Window]):
    """The windows of one or more series, split by split, each series scaled by its training part.

    The targets of a window lie in its split; what comes before them may lie in an earlier one.
    """

    series: tuple[OneSeries, ...]
    scales: tuple[Scale, ...]
    grid: TimeGrid
    lags: int
    horizon: int
    season: int
    calendar: tuple[str, ...]
    roles: Roles
    borders: tuple[int, int]  # positions where validation and test begin
    past: Float32[np.ndarray, " value"]  # all series, one after the other: scaled, gaps filled
    future: Float32[np.ndarray, " value"]  # the same with NaN in gaps
    places: Float32[np.ndarray, "value feature"]  # in the calendar
    offsets: tuple[int, ...]  # of the first value of each series in `past`
    owners: Int64[np.ndarray, " window"]  # the number of each window's series
    starts: Int64[np.ndarray, " window"]  # of the first target, in `past`
    splits: Int8[np.ndarray, " window"]

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def num_inputs(self) -> int:
        """Lags, places in the calendar, and the spread."""
        return self.lags + self.places.shape[1] + 1

    def at(self, rows: Int64[np.ndarray, " n"]) -> dict[str, np.ndarray]:
        """The inputs of windows, and their targets with the location and scale of the windows.

        Both are relative to the level of the window, and the lags to its spread, so that neither a
        trend nor a change of the spread is a shift of the inputs.
        inputs: float32 [n, lags + calendar + 1], the last is the log of the spread; targets:
        float32 [n, horizon + 2].
        """
        starts, level = self.starts[rows], self.levels(rows)[:, None]
        lags = self.past[starts[:, None] + np.arange(-self.lags, 0)] - level
        targets = self.future[starts[:, None] + np.arange(self.horizon)] - level
        location, scale = self.scales_of(rows).T[:, :, None]
        units = np.concatenate((location + scale * level, scale), axis=1)
        inputs = _inputs(lags, self.places[starts])
        both = np.concatenate((targets, units), axis=1)
        return {
            "inputs": inputs.astype(np.float32),
            "targets": both.astype(np.float32),
        }

    def levels(self, rows: Int64[np.ndarray, " n"]) -> Float64[np.ndarray, " n"]:
        """The mean of the last season before each window, scaled."""
        season = np.arange(-min(self.season, self.lags), 0)
        return self.past[self.starts[rows][:, None] + season].mean(axis=1, dtype=np.float64)

    def scales_of(self, rows: Int64[np.ndarray, " n"]) -> Float64[np.ndarray, "n 2"]:
        """The location and scale of the series of each window."""
        return np.array(self.scales, dtype=np.float64).reshape(-1, 2)[self.owners[rows]]

    def row(self, place: int) -> Window:
        return {name: part[0] for name, part in self.at(np.array([place])).items()}

    def position(self, row: int) -> int:
        """The grid's position of a window's first target."""
        owner = int(self.owners[row])
        return self.series[owner].begin + int(self.starts[row]) - self.offsets[owner]


@dataclass(frozen=True, slots=True)
class WindowNames(Rows[str]):
    """ "sales, 2020-01 to 2020-12" for the targets of each window, built when read."""

    windows: SeriesWindows

    def __len__(self) -> int:
        return len(self.windows)

    def row(self, place: int) -> str:
        windows = self.windows
        name = windows.series[int(windows.owners[place])].name
        return window_name(name, windows.grid, windows.position(place), horizon=windows.horizon)


def window_name(name: str, grid: TimeGrid, position: int, *, horizon: int) -> str:
    """ "sales, 2020-01 to 2020-12" for the steps from a position on."""
    first, last = grid.text(position), grid.text(position + horizon - 1)
    return f"{name}, {first} to {last}" if horizon > 1 else f"{name}, {first}"


def concatenate(
    series: Sequence[OneSeries],
    scales: Sequence[Scale],
    grid: TimeGrid,
    *,
    season: int,
    calendar: Sequence[str],
) -> tuple[np.ndarray, np.ndarray, np.ndarray, tuple[int, ...]]:
    """`past`, `future`, `places` and `offsets` of `SeriesWindows`."""
    past, future, places = [], [], []
    for one, scale in zip(series, scales, strict=True):
        values = (one.values - scale.location) / scale.scale
        future.append(values.astype(np.float32))
        past.append(filled(values, season).astype(np.float32))
        places.append(calendar_features(grid, one.begin, len(values), names=calendar))
    ends = np.cumsum([len(one.values) for one in series]).tolist()
    joined = np.concatenate(past), np.concatenate(future), np.concatenate(places)
    return *joined, (0, *ends[:-1])


def window_after(
    one: OneSeries, scale: Scale, grid: TimeGrid, *, lags: int, season: int, calendar: Sequence[str]
) -> tuple[Float32[np.ndarray, " input"], Scale]:
    """The inputs of the window after the end of a series, and its location and scale."""
    scaled = filled((one.values - scale.location) / scale.scale, season)[-lags:]
    scaled = scaled.astype(np.float32).astype(np.float64)
    level = float(scaled[-min(season, lags) :].mean())
    place = calendar_features(grid, one.end, 1, names=calendar)[0]
    inputs = _inputs((scaled - level)[None], place[None])[0].astype(np.float32)
    return inputs, Scale(scale.location + scale.scale * level, scale.scale)
