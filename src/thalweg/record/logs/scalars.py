"""What every reader of curves gives: a name for each curve, and its points."""

from collections.abc import Iterable, Mapping
from math import isnan
from typing import NamedTuple

from thalweg.record.metric_names import words_of

Points = dict[int, float]  # step → value
Rows = Iterable[Mapping[str, float]]  # one mapping a logged line; a blank cell is no entry
STEPS = (["step"], ["global", "step"], ["trainer", "global", "step"], ["iteration"], ["iter"])


class Scalars(NamedTuple):
    """The curves of one file."""

    curves: dict[str, Points]
    steps: str  # the column that counts: a step, an epoch, or "" for the number of the row

    @property
    def by_epoch(self) -> bool:
        """Whether a point is the mean of a whole epoch."""
        return "epoch" in words_of(self.steps)


def from_rows(rows: Rows) -> Scalars:
    """The curves of a table; its steps are its column of steps, else of epochs, else its rows."""
    table = list(rows)
    names = dict.fromkeys(name for row in table for name in row)
    counter = _counter(list(names), table)
    curves: dict[str, Points] = {name: {} for name in names if not _counts(name)}
    step = 0
    for number, row in enumerate(table):
        step = int(row.get(counter, step)) if counter else number
        for name in row.keys() & curves.keys():
            curves[name][step] = row[name]
    return Scalars({name: _measured(points) for name, points in curves.items() if points}, counter)


def _counts(name: str) -> bool:
    return words_of(name) in STEPS or words_of(name) in (["epoch"], ["epochs"])


def _counter(names: list[str], table: list[Mapping[str, float]]) -> str:
    """The column that tells the steps; "" where none does in whole numbers that go up."""
    candidates = [name for name in names if words_of(name) in STEPS]
    candidates += [name for name in names if words_of(name) in (["epoch"], ["epochs"])]
    for name in candidates:
        counted = [row[name] for row in table if name in row]
        whole = all(value == value // 1 and 0 <= value < 2**53 for value in counted)
        if whole and counted == sorted(counted) and (len(set(counted)) > 1 or len(table) == 1):
            return name
    return ""


def _measured(points: Points) -> Points:
    """Without the NaN that stand for a blank.

    A training whose loss has become NaN logs nothing else from there on; a NaN that numbers
    follow was written for "not logged in this row", and then the others of that curve were too.
    """
    finite = [step for step, value in points.items() if not isnan(value)]
    last = max(finite, default=-1)
    if any(isnan(value) and step < last for step, value in points.items()):
        return {step: points[step] for step in finite}
    return points
