"""The confusion matrix of predictions, with recall, precision and confused pairs."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import nan
from typing import NamedTuple

from thalweg.record import PredictionRow


class ClassScore(NamedTuple):
    name: str
    recall: float  # share of the class's samples that are predicted as it; NaN without samples
    precision: float  # share of the predictions of the class that are right; NaN without any
    samples: int
    right: int


class Pair(NamedTuple):
    target: str
    predicted: str
    samples: int
    share: float  # of the target's samples


@dataclass(frozen=True)
class Confusion:
    """counts[i][j]: samples of class i predicted as class j."""

    names: Sequence[str]
    counts: list[list[int]]

    @property
    def total(self) -> int:
        return sum(map(sum, self.counts))

    @property
    def right(self) -> int:
        return sum(row[index] for index, row in enumerate(self.counts))

    def scores(self) -> list[ClassScore]:
        """Recall and precision of each class, in the order of the classes."""
        columns = [sum(column) for column in zip(*self.counts, strict=True)]
        return [
            ClassScore(name, _share(row[i], sum(row)), _share(row[i], columns[i]), sum(row), row[i])
            for i, (name, row) in enumerate(zip(self.names, self.counts, strict=True))
        ]

    def pairs(self) -> list[Pair]:
        """The pairs of confused classes, the most frequent first."""
        pairs = [
            Pair(self.names[i], self.names[j], n, n / sum(row))
            for i, row in enumerate(self.counts)
            for j, n in enumerate(row)
            if n and i != j
        ]
        return sorted(pairs, key=lambda pair: (-pair.samples, -pair.share, pair.target))


def confusion(rows: Iterable[PredictionRow], classes: Sequence[str]) -> Confusion:
    """Count (target, predicted). A class that is in the rows alone comes after `classes`."""
    counts = Counter((row.target, row.predicted) for row in rows)
    names = dict.fromkeys(classes)
    names |= dict.fromkeys(sorted({name for pair in counts for name in pair}))
    return Confusion(list(names), [[counts[i, j] for j in names] for i in names])


def mistakes(rows: Iterable[PredictionRow]) -> list[PredictionRow]:
    """The wrong predictions, the most confident first."""
    wrong = [row for row in rows if row.target != row.predicted]
    return sorted(wrong, key=lambda row: -row.probability)


def _share(part: int, whole: int) -> float:
    return part / whole if whole else nan
