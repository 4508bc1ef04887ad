"""Axes of a chart: values to pixels, ticks and their labels."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import ceil, floor, log10

from thalweg.wording import figure, percent, power_of_ten

CHARACTER = 7.6  # pixels, of a digit in the charts' type; generous
LARGEST = 1e300  # larger values are drawn at the edge; their span would overflow
SMALLEST = 1e-290  # values nearer to zero are drawn as zero; their span would underflow
LOG_FROM = 20.0  # largest by smallest value, from which on a scale is logarithmic


@dataclass(frozen=True, slots=True)
class Axis:
    """Values low..high at pixels start..end; linear, or logarithmic where that shows more."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False
    ticks: Sequence[float] = ()
    shares: bool = False  # written as percentages

    def at(self, value: float) -> float:
        """The pixel of a value; a value outside the axis gets the edge."""
        clipped = min(max(value, self.low), self.high)
        if self.log:
            low, high = log10(self.low), log10(self.high)  # their ratio could overflow
            fraction = (log10(clipped) - low) / (high - low)
        else:
            fraction = (clipped - self.low) / (self.high - self.low)
        return self.start + fraction * (self.end - self.start)

    def label(self, value: float) -> str:
        if self.shares:
            return percent(value, 0 if self._gap() >= 0.0099 else 1)
        if self.log:
            plain = self.ticks[0] >= 1e-3 and self.ticks[-1] < 1e6
            return figure(value, 1) if plain else power_of_ten(value)
        finest = floor(log10(self._gap()) + 1e-9) if self._gap() > 0 else 0
        places = max(0, -finest)
        if places > 4 or abs(value) >= 1e6:
            largest = max(map(abs, self.ticks), default=0.0)
            digits = floor(log10(largest)) - finest + 1 if largest > 0 else 2
            return figure(value, max(2, digits))
        return f"{value:,.{places}f}".replace("-", "−")

    @property
    def label_width(self) -> float:
        """Width in pixels of the labels beside the axis."""
        return 12 + CHARACTER * max(len(self.label(tick)) for tick in self.ticks)

    def _gap(self) -> float:
        return min((b - a for a, b in zip(self.ticks, self.ticks[1:], strict=False)), default=0.0)


def axis(
    values: Iterable[float],
    pixels: tuple[float, float],
    *,
    shares: bool = False,
    linear: bool = False,
) -> Axis:
    """An axis that holds all the finite values, with a little room, and round ticks.

    Logarithmic where the values span a large factor, unless they are shares or it must be linear.
    """
    finite = [v if abs(v) >= SMALLEST else 0.0 for v in values if abs(v) < LARGEST]
    low, high = min(finite, default=0.0), max(finite, default=1.0)
    if not (shares or linear) and low > 0 and high > LOG_FROM * low:
        return _log_axis(low, high, pixels)
    return _linear_axis(low, high, pixels, shares=shares)


def round_steps(low: float, high: float, most: int = 5) -> list[float]:
    """Multiples of 1, 2 or 5 × 10ⁿ from low to high: at least two, about `most`."""
    span = high - low
    rough = span / max(1, most)
    power = 10.0 ** floor(log10(rough))
    step = next(f * power for f in (1, 2, 5, 10) if f * power >= rough * 0.999)
    first, last = ceil(low / step - 1e-9), floor(high / step + 1e-9)
    return [index * step for index in range(first, last + 1)]


def _linear_axis(low: float, high: float, pixels: tuple[float, float], *, shares: bool) -> Axis:
    if shares:
        low, high = min(max(low, 0.0), 1.0), min(max(high, 0.0), 1.0)  # a damaged file has others
        low, high = max(0.0, min(low, high - 0.05)), min(1.0, max(high, low + 0.05))
    if not high - low > 1e-9 * max(abs(high), abs(low)):
        low, high = low - (abs(low) or 1.0) * 0.5, high + (abs(high) or 1.0) * 0.5
    near_zero = 0 <= low < 0.4 * high  # then zero belongs to the picture
    room = 0.04 * (high - low)
    low = 0.0 if near_zero else low - room
    top = high + room
    if shares:
        low, top = max(0.0, low), min(1.0, top)
    return Axis(low, top, *pixels, ticks=round_steps(low, top), shares=shares)


def _log_axis(low: float, high: float, pixels: tuple[float, float]) -> Axis:
    low, high = low / 1.15, high * 1.15
    first, last = ceil(log10(low) - 1e-9), floor(log10(high) + 1e-9)
    every = max(1, -(-(last - first + 1) // 6))
    ticks = [10.0**power for power in range(first, last + 1, every)]
    if len(ticks) < 2:
        powers = range(first - 1, last + 1)
        ticks = [f * 10.0**power for power in powers for f in (1, 2, 5)]
        ticks = [tick for tick in ticks if low <= tick <= high]
    return Axis(low, high, *pixels, log=True, ticks=ticks)
