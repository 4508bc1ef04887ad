"""An equally spaced grid of time: positions of time stamps on it, and stamps of positions."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import numpy as np

from thalweg.data.series.time_stamps import (
    EPOCH,
    EPOCH_MS,
    NUMBERS,
    QUARTERS,
    YEARS,
    stamp_forms,
    stamps_in,
)
from thalweg.data.tables.dates import ISO

Kind = Literal["number", "seconds", "months", "weekdays"]
DAY, WEEK = 86_400.0, 7 * 86_400.0
LEAST_REGULAR = 0.9  # of the steps between neighbours that are one interval long
NEAR = 0.3  # of an interval, by which a stamp may lie off the grid
MOST_GAPS = 2.0  # positions of the grid for each stamp: more are no series with gaps
LEAST_STAMPS = 4
_MONTHS = (1, 2, 3, 4, 6, 12)
_DECIMAL = {1 / 12: 1, 1 / 4: 3}  # a step of decimal years → months


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeGrid:
    """Positions 0, 1, 2, … from the first stamp on, an interval apart."""

    kind: Kind
    form: str  # that stamps are written in
    origin: float  # a number; seconds since 1970; months since the year 0; weekdays since 1970
    step: float  # in the number's unit, seconds, months or weekdays
    day: int = 1  # of the month; 31: its last day

    def positions(self, stamps: np.ndarray) -> np.ndarray:
        """float64: the place of each stamp, in intervals; whole where it lies on the grid."""
        if self.kind == "months":
            return (_months(stamps, decimal=self.form == NUMBERS) - self.origin) / self.step
        if self.kind == "weekdays":
            return _weekdays(stamps) - self.origin
        numbers = stamps if self.kind == "number" else _seconds(stamps)
        return (numbers - self.origin) / self.step

    def moments(self, first: int, count: int) -> np.ndarray | None:
        """datetime64[us] of consecutive positions; None where stamps are numbers without a date."""
        places = self.origin + self.step * np.arange(first, first + count)
        if self.kind == "number":
            return None
        if self.kind == "weekdays":
            days = np.busday_offset("1970-01-01", places.astype(np.int64), roll="forward")
            return days.astype("datetime64[us]")
        if self.kind == "seconds":
            return np.round(places * 1e6).astype(np.int64).astype("datetime64[us]")
        months = (places.astype(np.int64) - 1970 * 12).astype("datetime64[M]")
        last = (months + 1).astype("datetime64[D]") - 1
        day = months.astype("datetime64[D]") + (self.day - 1)
        return np.minimum(day, last).astype("datetime64[us]")

    def text(self, position: int) -> str:
        """The stamp of a position, written as the file writes stamps."""
        moments = self.moments(position, 1)
        if moments is None:
            return f"{self.origin + self.step * position:.10g}"
        at = moments[0].item()
        if self.form == NUMBERS:
            return f"{at.year + (at.month - 1) / 12:.8g}"
        if self.form == YEARS:
            return f"{at.year}"
        if self.form == QUARTERS:
            return f"{at.year}Q{(at.month + 2) // 3}"
        if self.form in (EPOCH, EPOCH_MS):
            return f"{_seconds(moments)[0] * (1 if self.form == EPOCH else 1e3):.0f}"
        if self.form != ISO:
            return str(at.strftime(self.form))
        is_day = self.step % DAY == 0 and self.origin % DAY == 0
        return at.date().isoformat() if self.kind != "seconds" or is_day else at.isoformat(" ")

    @property
    def noun(self) -> str:
        """The interval in words, such as "month", "day" or "step"."""
        nouns: dict[str, dict[float, str]] = {
            "number": {},
            "months": {1: "month", 3: "quarter", 12: "year"},
            "weekdays": {1: "weekday"},
            "seconds": {1: "second", 60: "minute", 3600: "hour", DAY: "day", WEEK: "week"},
        }
        return nouns[self.kind].get(self.step, "step")

    @property
    def interval(self) -> str:
        """The interval with its length, such as "month" or "15 minutes"."""
        if self.noun != "step":
            return self.noun
        if self.kind == "months":
            return f"{self.step:g} months"
        if self.kind == "number":
            return f"{self.step:.6g}"
        for unit, name in ((WEEK, "week"), (DAY, "day"), (3600, "hour"), (60, "minute")):
            if self.step % unit == 0:
                return f"{self.step / unit:g} {name}s"
        return f"{self.step:g} seconds"

    def to_dict(self) -> dict[str, Any]:
        """The values for JSON."""
        return asdict(self)


def restore_grid(values: Mapping[str, Any]) -> TimeGrid:
    """The inverse of `TimeGrid.to_dict`. Raises ValueError, TypeError for impossible values."""
    grid = TimeGrid(**values)
    numbers = (grid.origin, grid.step, grid.day)
    if grid.kind not in get_args(Kind) or not all(isinstance(n, int | float) for n in numbers):
        raise ValueError(f"no grid of time: {str(values)[:60]}")
    if not (grid.step > 0 and np.isfinite(grid.origin) and isinstance(grid.form, str)):
        raise ValueError(f"no grid of time: {str(values)[:60]}")
    grid.text(0)
    return grid


def find_grid(cells: Sequence[str], *, groups: Sequence[str] = ()) -> TimeGrid | None:
    """The grid that the stamps of a column lie on; None where they are none or irregular.

    `groups` names the series of each stamp: intervals are those within a series.
    """
    for form in stamp_forms(cells):
        grid = grid_of(stamps_in(cells, form), form, groups=groups)
        if grid is not None:
            return grid
    return None


def grid_of(stamps: np.ndarray, form: str, *, groups: Sequence[str] = ()) -> TimeGrid | None:
    """The grid of stamps of this form; None where they are irregular."""
    distinct = np.unique(stamps)
    if len(distinct) < LEAST_STAMPS or np.isnan(distinct).any():
        return None
    steps = _steps(stamps, groups)
    if not len(steps):
        return None
    for grid in _candidates(distinct, steps, form):
        places = grid.positions(distinct)
        is_on = np.abs(places - np.round(places)) <= NEAR
        own = np.diff(np.unique(np.round(places[is_on])))
        if is_on.mean() >= LEAST_REGULAR and len(own) and _is_dense(grid, places):
            within = _steps(np.round(grid.positions(stamps)), groups)
            if (within == 1).mean() >= LEAST_REGULAR:
                return grid
    return None


def _is_dense(grid: TimeGrid, places: np.ndarray) -> bool:
    return float(places[-1] - places[0]) <= MOST_GAPS * len(places)


def _steps(stamps: np.ndarray, groups: Sequence[str]) -> np.ndarray:
    """The differences between neighbouring stamps of one series that are not equal."""
    if not len(groups):
        return np.diff(np.unique(stamps))
    codes = np.unique(np.asarray(groups), return_inverse=True)[1]
    order = np.lexsort((stamps, codes))
    steps, same = np.diff(stamps[order]), np.diff(codes[order]) == 0
    zero = np.array(0, dtype=steps.dtype)
    return steps[same & (steps > zero)]


def _candidates(distinct: np.ndarray, steps: np.ndarray, form: str) -> list[TimeGrid]:
    """Grids that the stamps may lie on, the plainest first."""
    if form == NUMBERS:
        return _number_candidates(distinct, float(np.median(steps)))
    median = float(np.median(steps.astype(np.int64))) / 1e6
    grids = [_month_grid(distinct, median, form), _weekday_grid(distinct, median, form)]
    if median > 0:
        origin, step = float(_seconds(distinct[:1])[0]), _round_step(median)
        if ((_seconds(distinct) - origin) % step).any():  # clocks with jitter
            origin = round(origin / step) * step
        grids.append(TimeGrid(kind="seconds", form=form, origin=origin, step=step))
    return [grid for grid in grids if grid is not None]


def _number_candidates(distinct: np.ndarray, step: float) -> list[TimeGrid]:
    """Months and quarters of decimal years, such as 1949.0833; then plain numbers."""
    is_year = distinct[0] >= 1000 and distinct[-1] <= 3000
    origin = float(_months(distinct[:1], decimal=True)[0])
    grids = [
        TimeGrid(kind="months", form=NUMBERS, origin=origin, step=months)
        for share, months in _DECIMAL.items()
        if is_year and abs(step - share) < 0.02 * share
    ]
    own = TimeGrid(kind="number", form=NUMBERS, origin=float(distinct[0]), step=step)
    return [*grids, own]


def _month_grid(distinct: np.ndarray, median: float, form: str) -> TimeGrid | None:
    """The grid of one day of every month, of its last day too, or of every third or twelfth."""
    days = distinct.astype("datetime64[D]")
    if median < 27 * DAY or (days.astype("datetime64[us]") != distinct).any():
        return None
    of_month = (days - days.astype("datetime64[M]").astype("datetime64[D]")).astype(int) + 1
    first, last = int(of_month.min()), int(of_month.max())
    months = max((m for m in _MONTHS if abs(median / DAY - 30.44 * m) < 4 * m), default=0)
    if not months or last - first > (3 if first >= 28 else 0):
        return None
    day = 31 if first >= 28 else first
    origin = float(_months(distinct[:1])[0])
    return TimeGrid(kind="months", form=form, origin=origin, step=months, day=day)


def _weekday_grid(distinct: np.ndarray, median: float, form: str) -> TimeGrid | None:
    """The grid of Mondays to Fridays, as of prices; None where a stamp is on a weekend."""
    weekday = (distinct.astype("datetime64[D]").astype(np.int64) + 3) % 7  # 0 is Monday
    if median != DAY or len(distinct) < 10 or weekday.max() > 4 or len(np.unique(weekday)) < 4:
        return None
    origin = float(_weekdays(distinct[:1])[0])
    return TimeGrid(kind="weekdays", form=form, origin=origin, step=1.0)


def _round_step(seconds: float) -> float:
    """The interval without the jitter of clocks: whole minutes where nearly so."""
    for unit in (WEEK, DAY, 3600.0, 60.0, 1.0):
        whole = round(seconds / unit) * unit
        if whole and abs(seconds - whole) <= 0.02 * unit:
            return whole
    return seconds


def _months(stamps: np.ndarray, *, decimal: bool = False) -> np.ndarray:
    if decimal:
        return np.round(stamps * 12)
    return stamps.astype("datetime64[M]").astype(np.float64) + 1970 * 12


def _seconds(stamps: np.ndarray) -> np.ndarray:
    return stamps.astype("datetime64[us]").astype(np.float64) / 1e6


def _weekdays(stamps: np.ndarray) -> np.ndarray:
    days = stamps.astype("datetime64[D]")
    return np.busday_count("1970-01-01", days).astype(np.float64)
