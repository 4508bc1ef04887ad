"""One series of measurements: compact, and thinned once it is long."""

from array import array
from bisect import bisect_left
from collections.abc import ItemsView, Iterator, Mapping, ValuesView
from math import isfinite
from typing import NamedTuple

MOST_POINTS = 2**16  # of one series; a run of so many steps keeps every loss
SEGMENT = (
    1024  # points of which the lowest and the highest outlive a thinning; fewer widen the noise
)


class Point(NamedTuple):
    """One measurement."""

    step: int
    value: float


class CompactSeries(Mapping[int, float]):
    """Step → value, in the order of steps: 16 bytes a point, where a dict takes 126.

    Beyond `most` points every second one is left out, and from then on of the new ones, too: the
    rest are evenly spaced over the run. The first, the last, and of each segment the lowest and
    the highest stay, as does the first value of it that is not finite.
    """

    def __init__(self, most: int = MOST_POINTS) -> None:
        self.step_array, self.value_array = array("q"), array("d")
        self.count = 0  # points that were added, left out or not
        self.stride = 1  # one in so many is a regular point
        self._most = most
        self._last_stays = True
        self._regular = 0  # regular points in this segment
        self._low: Point | None = None  # of those left out in this segment
        self._high: Point | None = None

    def add(self, step: int, value: float) -> None:
        """Add a point; a second one of a step replaces the first."""
        if self.step_array and step <= self.step_array[-1]:
            self._put(step, value)
            return
        if not self._last_stays:
            self._leave_out(Point(self.step_array.pop(), self.value_array.pop()))
        self.step_array.append(step)
        self.value_array.append(value)
        self._last_stays = self.count % self.stride == 0
        self.count += 1
        if self.stride > 1 and self._last_stays:
            self._count_regular()
        if len(self.step_array) > self._most:
            self.thin(self._most)

    def thin(self, most: int) -> None:
        """Leave out points until at most so many are left, now and from now on."""
        self._most = most
        while len(self.step_array) > max(most, 4):
            before = len(self.step_array)
            chosen = [i for start in range(0, before, SEGMENT) for i in self._to_keep(start)]
            self.step_array = array("q", [self.step_array[i] for i in chosen])
            self.value_array = array("d", [self.value_array[i] for i in chosen])
            self.stride *= 2
            if len(self.step_array) == before:
                return

    def __getitem__(self, step: int) -> float:
        index = bisect_left(self.step_array, step)
        if index == len(self.step_array) or self.step_array[index] != step:
            raise KeyError(step)
        return self.value_array[index]

    def __iter__(self) -> Iterator[int]:
        return iter(self.step_array)

    def __reversed__(self) -> Iterator[int]:
        return reversed(self.step_array)

    def __len__(self) -> int:
        return len(self.step_array)

    def items(self) -> ItemsView[int, float]:
        return dict(zip(self.step_array, self.value_array, strict=True)).items()

    def values(self) -> ValuesView[float]:
        return dict(zip(self.step_array, self.value_array, strict=True)).values()

    def __repr__(self) -> str:
        return repr(dict(self.items()))

    def _put(self, step: int, value: float) -> None:
        index = bisect_left(self.step_array, step)
        if self.step_array[index] == step:
            self.value_array[index] = value
            return
        self.step_array.insert(index, step)
        self.value_array.insert(index, value)
        self.count += 1

    def _leave_out(self, point: Point) -> None:
        """Note a point that is no regular one, in case it is its segment's lowest or highest."""
        if self._low is None or point.value < self._low.value:
            self._low = point
        if self._high is None or _height(point.value) > _height(self._high.value):
            self._high = point

    def _count_regular(self) -> None:
        """At the end of a segment, put back the lowest and the highest of what it left out."""
        self._regular += 1
        if self._regular < SEGMENT:
            return
        for point in {self._low, self._high}:
            if point is not None:
                self._put(*point)
                self.count -= 1
        self._regular, self._low, self._high = 0, None, None

    def _to_keep(self, start: int) -> list[int]:
        """Indices of a segment: every second point, the lowest, the highest, the last of all."""
        end = min(start + SEGMENT, len(self.step_array))
        values = self.value_array[start:end]
        highest = max(range(len(values)), key=lambda i: _height(values[i]))
        lowest = min(range(len(values)), key=lambda i: _height(values[i]))
        last = {end - 1} if end == len(self.step_array) else set()
        return sorted({*range(start, end, 2), start + lowest, start + highest, *last})


def _height(value: float) -> float:
    """A value for comparison: one that is not finite is highest of all."""
    return value if isfinite(value) else float("inf")
