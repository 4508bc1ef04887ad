"""The curves of a log, as every reader returns them: names and points."""

from collections.abc import Iterable, Mapping
from math import isnan
from typing import NamedTuple

from thalweg.record.metric_names import words_of

Points = dict[int, float]  # step → value
Rows = Iterable[Mapping[str, float]]  # one a logged line, without its blank cells
STEPS = (["step"], ["global", "step"], ["trainer", "global", "step"], ["iteration"], ["iter"])


class Scalars(NamedTuple):
    """The curves of one file."""

    curves: dict[str, Points]
    steps: str  # the column of steps or epochs; "" for the number of the row

    @property
    def by_epoch(self) -> bool:
        """Return whether each point is the mean of a whole epoch."""
        return "epoch" in words_of(self.steps)


def from_rows(rows: Rows) -> Scalars:
    """The curves of a table, over its column of steps, else of epochs, else over its rows."""
    table = list(rows)
    names = dict.fromkeys(name for row in table for name in row)
    counter = _counter(list(names), table)
    curves: dict[str, Points] = {name: {} for name in names if not _is_counter(name)}
    step = 0
    for number, row in enumerate(table):
        step = int(row.get(counter, step)) if counter else number
        for name in row.keys() & curves.keys():
            curves[name][step] = row[name]
    filled = {name: _without_blanks(points) for name, points in curves.items() if points}
    return Scalars(filled, counter)


def _is_counter(name: str) -> bool:
    return words_of(name) in STEPS or words_of(name) in (["epoch"], ["epochs"])


def _counter(names: list[str], table: list[Mapping[str, float]]) -> str:
    """The column of steps; "" where none holds whole numbers that go up."""
    candidates = [name for name in names if words_of(name) in STEPS]
    candidates += [name for name in names if words_of(name) in (["epoch"], ["epochs"])]
    for name in candidates:
        counts = [row[name] for row in table if name in row]
        whole = all(value == value // 1 and 0 <= value < 2**53 for value in counts)
        if whole and counts == sorted(counts) and (len(set(counts)) > 1 or len(table) == 1):
            return name
    return ""


def _without_blanks(points: Points) -> Points:
    """Drop every NaN that stands for a blank.

    A training whose loss has become NaN logs nothing else from then on. Where numbers follow a
    NaN, it means "not logged in this row", and so do the other NaN of that curve.
    """
    finite = [step for step, value in points.items() if not isnan(value)]
    last = max(finite, default=-1)
    if any(isnan(value) and step < last for step, value in points.items()):
        return {step: points[step] for step in finite}
    return points
