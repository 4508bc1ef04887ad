"""The season of a series: by its interval, or by its autocorrelation."""

import numpy as np
from jaxtyping import Float64

from thalweg.data.series.time_grid import DAY, WEEK, TimeGrid

LEAST_SEASONS = 2.5  # of the training part
LEAST_CORRELATION = 0.3  # of values a season apart, without their trend
NEARLY = 0.9  # of the highest peak
MOST_SEASON = 400  # steps, that are searched


def season_of(grid: TimeGrid, train: Float64[np.ndarray, " time"]) -> int:
    """The steps after which the longest training part repeats; 1 for no season.

    Days repeat after a week, months after a year, hours after a day. Where the calendar says
    nothing, the autocorrelation of the values without their trend does.
    """
    calendar = calendar_season(grid)
    if calendar > 1:
        return calendar if len(train) >= LEAST_SEASONS * calendar else 1
    return autocorrelated_season(train)


def calendar_season(grid: TimeGrid) -> int:
    """The steps of a year, a week, a day or an hour; 1 where the interval has no such period."""
    if grid.kind == "weekdays":
        return 5
    if grid.kind == "months":
        return int(12 // grid.step) if 12 % grid.step == 0 else 1
    if grid.kind != "seconds":
        return 1
    if grid.step == WEEK:
        return 52
    for period in (7 * DAY, DAY, 3600.0) if grid.step == DAY else (DAY, 3600.0, 60.0):
        steps = period / grid.step
        if steps == int(steps) and 2 <= steps <= MOST_SEASON:
            return int(steps)
    return 1


def autocorrelated_season(train: Float64[np.ndarray, " time"]) -> int:
    """The lag of the highest peak of the autocorrelation; 1 where no peak is high enough."""
    count = len(train)
    if count < 12:
        return 1
    place = np.arange(count)
    rest = train - np.polyval(np.polyfit(place, train, 1), place)
    spread = float(np.square(rest).sum())
    if not spread > 0:
        return 1
    longest = min(MOST_SEASON, int(count / LEAST_SEASONS))
    size = 1 << (2 * count - 1).bit_length()
    power = np.abs(np.fft.rfft(rest, size)) ** 2
    correlation = np.fft.irfft(power, size)[: longest + 2] / spread
    below = np.flatnonzero(correlation < 0)  # a peak counts once the first slope has ended
    peaks = [
        lag
        for lag in range(max(2, int(below[0]) if len(below) else longest), longest + 1)
        if correlation[lag] >= max(correlation[lag - 1], correlation[lag + 1])
    ]
    highest = max((correlation[lag] for lag in peaks), default=0.0)
    if highest < LEAST_CORRELATION:
        return 1
    # Of a season and its multiples, whose peaks are nearly as high, the season itself.
    return next(lag for lag in peaks if correlation[lag] >= NEARLY * highest)
