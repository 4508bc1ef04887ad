"""Series → windows, split by time: the beginning trains, what follows validates, then tests."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from thalweg.data.caveat import Caveat
from thalweg.data.samples import Quarantined, Samples
from thalweg.data.series.calendar import calendar_names
from thalweg.data.series.options import SeriesOptions
from thalweg.data.series.season import season_of
from thalweg.data.series.time_grid import DAY, WEEK, TimeGrid
from thalweg.data.series.windows import (
    OneSeries,
    Roles,
    SeriesWindows,
    WindowNames,
    concatenate,
    scale_of,
)
from thalweg.data.split import TEST, TRAIN, VAL, Holdout
from thalweg.errors import DataError, UsageError
from thalweg.wording import count, some

HORIZONS = {  # steps, by the interval; else the season, or the last one
    "month": 12,
    "quarter": 4,
    "year": 4,
    "week": 13,
    "day": 14,
    "weekday": 10,
    "hour": 24,
    "step": 10,
}
HORIZON_SHARE = 0.1  # of the time, that a horizon has at most where it is chosen
LONG_SEASON = 8  # steps, from which on three seasons of lags are enough
FEW_LAGS = 24  # of series without a season
LEAST_TRAIN = 4  # windows
MOST_EVALUATED = 20_000  # windows of a split that only evaluates; of more, evenly spaced ones
WEEK_OF_HOURS = 168


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesTable:
    """The series of a file, on one grid of time."""

    path: Path
    grid: TimeGrid
    roles: Roles
    series: tuple[OneSeries, ...]


class _Borders(NamedTuple):
    """Positions of the grid where the parts of the time begin and end."""

    begin: int
    val: int
    test: int
    end: int


def divide_series(samples: Samples, options: SeriesOptions, holdout: Holdout) -> Samples:
    """The windows of the series as samples; their targets are the values that follow.

    All series are cut at the same moments. The targets of a training window end before
    validation begins, and scales come from the training part alone.
    Raises DataError where the series are too short, UsageError for folds.
    """
    options.check()
    table: SeriesTable = samples.inputs
    if holdout.folds:
        raise UsageError(
            "series cannot be divided into folds: some would be forecast from their future",
            seen=f"data.folds={holdout.folds}",
            fix="leave them out: the end of the time validates",
        )
    horizon, borders = _horizon_and_borders(table, options, holdout)
    train = [one.values[: max(0, borders.val - one.begin)] for one in table.series]
    longest = max(train, key=len)
    season = options.season or season_of(table.grid, longest[np.isfinite(longest)])
    lags = options.lags or _lags(len(longest), horizon=horizon, season=season, grid=table.grid)
    scales = tuple(scale_of(part, season) for part in train)
    calendar = calendar_names(table.grid, len(longest))
    past, future, places, offsets = concatenate(
        table.series, scales, table.grid, season=season, calendar=calendar
    )
    owners, starts, splits = _windows(
        table, borders, future, offsets=offsets, lags=lags, horizon=horizon
    )
    windows = SeriesWindows(
        series=table.series,
        scales=scales,
        grid=table.grid,
        lags=lags,
        horizon=horizon,
        season=season,
        calendar=calendar,
        roles=table.roles,
        borders=(borders.val, borders.test),
        past=past,
        future=future,
        places=places,
        offsets=offsets,
        owners=owners,
        starts=starts,
        splits=splits,
    )
    _check_counts(windows, table)
    return Samples(
        inputs=windows,
        names=WindowNames(windows),
        # The first value of each window: the batches hold all of them.
        labels=future[starts][:, None].astype(np.float32),
        splits=splits,
        label_place=f"the series of {table.path.name}",
        quarantined=tuple(_too_short(windows)),
        notes=(*samples.notes, *_notes(windows, borders, options, num_calendar=len(calendar))),
    )


def _horizon_and_borders(
    table: SeriesTable, options: SeriesOptions, holdout: Holdout
) -> tuple[int, _Borders]:
    begin = min(one.begin for one in table.series)
    end = max(one.end for one in table.series)
    span = end - begin
    longest = max(len(one.values) for one in table.series)
    chosen = HORIZONS.get(table.grid.noun, HORIZONS["step"])
    horizon = options.horizon or max(1, min(chosen, int(HORIZON_SHARE * longest)))
    test_steps = round(holdout.test_fraction * span)
    if holdout.test_fraction:
        test_steps = max(horizon, test_steps)
    val_steps = max(horizon, round(holdout.val_fraction * (span - test_steps)))
    val = end - test_steps - val_steps
    if val - begin < horizon + LEAST_TRAIN:
        raise DataError(
            f"{table.path} is too short to forecast {count(horizon, 'step')}",
            seen=f"{count(longest, 'value')} in the longest series, of which "
            f"{count(val_steps, 'value')} would validate",
            fix="a smaller data.horizon, or more of the past",
        )
    return horizon, _Borders(begin, val, end - test_steps, end)


def _lags(train: int, *, horizon: int, season: int, grid: TimeGrid) -> int:
    """Lags that show some seasons, for which the training part still has as many windows."""
    wish = 3 * season if season >= LONG_SEASON else max(8 * season, FEW_LAGS)
    if grid.kind == "seconds" and grid.step < DAY and DAY % grid.step == 0:
        week = int(WEEK // grid.step)  # hours repeat after a day and after a week
        wish = week if week <= 2 * WEEK_OF_HOURS and train >= 4 * week else wish
    wish = max(wish, 2 * horizon)
    most = max(1, (train - horizon) // 2)
    if wish <= most:
        return wish
    whole = most // season * season if season > 1 else most
    return whole or most


def _windows(
    table: SeriesTable,
    borders: _Borders,
    future: np.ndarray,
    *,
    offsets: Sequence[int],
    lags: int,
    horizon: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Owners, starts and splits of the windows whose targets lie in one part of the time."""
    owners, starts, splits = [], [], []
    values_before = np.concatenate(([0], np.cumsum(np.isfinite(future))))
    parts = zip((TRAIN, VAL, TEST), borders[:-1], borders[1:], strict=True)
    for split, first, last in list(parts):
        for number, (one, offset) in enumerate(zip(table.series, offsets, strict=True)):
            begin = max(first - one.begin, lags) + offset
            end = min(last - one.begin, len(one.values)) - horizon + 1 + offset
            places = np.arange(begin, end)
            if len(places):
                places = places[values_before[places + horizon] > values_before[places]]
            starts.append(places)
            owners.append(np.full(len(places), number))
            splits.append(np.full(len(places), split, dtype=np.int8))
    all_splits, all_starts = np.concatenate(splits), np.concatenate(starts).astype(np.int64)
    keep = np.concatenate(
        [_evenly(np.flatnonzero(all_splits == split), split) for split in range(3)]
    )
    joined = np.concatenate(owners).astype(np.int64)
    return joined[keep], all_starts[keep], all_splits[keep]


def _evenly(rows: np.ndarray, split: int) -> np.ndarray:
    """All windows to train on, and at most so many, evenly spaced, to evaluate with."""
    if split == TRAIN or len(rows) <= MOST_EVALUATED:
        return rows
    return rows[np.linspace(0, len(rows) - 1, MOST_EVALUATED).round().astype(np.int64)]


def _check_counts(windows: SeriesWindows, table: SeriesTable) -> None:
    train, val = (int((windows.splits == split).sum()) for split in (TRAIN, VAL))
    if train < LEAST_TRAIN or not val:
        longest = max(len(one.values) for one in windows.series)
        raise DataError(
            f"{table.path} is too short for windows of {windows.lags:,} past and "
            f"{windows.horizon:,} future steps",
            seen=f"{count(longest, 'value')} in the longest series: {count(train, 'window')} to "
            f"train on, {val:,} to validate with",
            fix="a smaller data.horizon or data.lags, or more of the past",
        )
    if all(np.nanmax(one.values) == np.nanmin(one.values) for one in windows.series):
        raise DataError(
            f"every value in {table.path} is the same: there is nothing to forecast",
            seen=f"{windows.series[0].values[0]:g} in all {count(len(windows.series[0].values))}",
            fix="another column: --target NAME",
        )


def _too_short(windows: SeriesWindows) -> Iterator[Quarantined]:
    with_windows = set(np.unique(windows.owners).tolist())
    for number, one in enumerate(windows.series):
        if number not in with_windows:
            yield Quarantined(one.name, "too short for a window")


def _notes(
    windows: SeriesWindows, borders: _Borders, options: SeriesOptions, *, num_calendar: int
) -> Iterator[str]:
    grid, noun = windows.grid, windows.grid.noun
    yield (
        f"forecast: {count(windows.horizon, noun)} ahead (--data.horizon), from the "
        f"{windows.lags:,} before (--data.lags), "
        + (f"season of {windows.season:,}" if windows.season > 1 else "without a season")
        + " (--data.season)"
    )
    test = f"; test from {grid.text(borders.test)} on" if borders.test < borders.end else ""
    yield (
        f"split by time: validation from {grid.text(borders.val)} on{test}; no window trains on "
        "a value after that, scales are of the training part"
    )
    gaps = [(~np.isfinite(one.values)).mean() for one in windows.series]
    if any(gaps):
        total = sum(int((~np.isfinite(one.values)).sum()) for one in windows.series)
        share = total / sum(len(one.values) for one in windows.series)
        text = (
            f"{count(total, noun)} of {count(len(windows.past))} have no value ({share:.0%}): as "
            "inputs they are the value of a season before, as targets they are left out"
        )
        yield Caveat(text, "Much of the series is missing") if share > 0.2 else text
    constant = [
        one.name for one in windows.series if np.nanmax(one.values) == np.nanmin(one.values)
    ]
    if constant:
        yield f"constant series: {some([repr(name) for name in constant])}"
