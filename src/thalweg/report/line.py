"""Reduce a series to the line of a chart: few points, none invented."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from statistics import fmean, median
from typing import NamedTuple

from thalweg.record.history import Series

MOST_POINTS = 240  # about one for every two pixels of a chart
NOISY = 60  # measurements, above which a line is smoothed and its range drawn behind it
SMOOTHING = 40  # the window of a smoothed line is its length divided by this


class Point(NamedTuple):
    step: float
    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Line:
    name: str
    kind: str  # "train", "val" or "other": its colour
    points: Sequence[Point]
    ranged: bool = False  # low and high differ from the value
    broken_at: tuple[int, ...] = ()  # steps whose value is not finite

    @property
    def last(self) -> Point:
        return self.points[-1]


def line(name: str, kind: str, series: Series) -> Line:
    """Every value of a short series; of a long one the mean and the range of each bucket."""
    steps = sorted(series)
    finite = [step for step in steps if isfinite(series[step])]
    broken = tuple(step for step in steps if not isfinite(series[step]))
    if len(finite) <= NOISY:
        exact = [Point(step, series[step], series[step], series[step]) for step in finite]
        return Line(name, kind, exact, broken_at=broken)
    buckets = _buckets([(step, series[step]) for step in finite])
    return Line(name, kind, _smooth(buckets), ranged=True, broken_at=broken)


def plain_line(name: str, kind: str, series: Series) -> Line:
    """A series without noise, such as a learning rate: some of its points, as they are."""
    steps = [step for step in sorted(series) if isfinite(series[step])]
    every = max(1, -(-len(steps) // MOST_POINTS))
    chosen = sorted({*steps[::every], *steps[-1:]})
    return Line(name, kind, [Point(step, *[series[step]] * 3) for step in chosen])


def spread_line(name: str, places: Mapping[str, Series]) -> Line:
    """The median over all places, with the range over them."""
    values: dict[int, list[float]] = {}
    for series in places.values():
        for step, value in series.items():
            if isfinite(value):
                values.setdefault(step, []).append(value)
    points = [Point(s, median(v), min(v), max(v)) for s, v in sorted(values.items())]
    every = max(1, -(-len(points) // MOST_POINTS))
    buckets = [_merge(points[start : start + every]) for start in range(0, len(points), every)]
    return Line(name, "other", buckets, ranged=len(places) > 1)


def _buckets(pairs: Sequence[tuple[int, float]]) -> list[Point]:
    size = max(1, -(-len(pairs) // MOST_POINTS))
    points = [Point(step, value, value, value) for step, value in pairs]
    return [_merge(points[start : start + size]) for start in range(0, len(points), size)]


def _merge(points: Sequence[Point]) -> Point:
    return Point(
        points[len(points) // 2].step if len(points) > 1 else points[0].step,
        fmean(point.value for point in points),
        min(point.low for point in points),
        max(point.high for point in points),
    )


def _smooth(points: Sequence[Point]) -> list[Point]:
    """Moving mean. Its window shrinks towards the beginning, where a loss falls fast, and keeps
    its left half at the end, where one noisy value would stand for the whole run."""
    half = max(1, len(points) // SMOOTHING)
    smooth = []
    for index, point in enumerate(points):
        reach = min(half, index)
        near = points[index - reach : index + reach + 1]
        beside = points[max(0, index - 1) : index + 2]  # else few points would have no range
        smooth.append(
            Point(
                point.step,
                fmean(other.value for other in near),
                min(other.low for other in beside),
                max(other.high for other in beside),
            )
        )
    return smooth
