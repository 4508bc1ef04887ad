"""Recall and precision of each label, where a sample may have several."""

from collections import Counter
from collections.abc import Iterable, Sequence
from math import nan
from typing import NamedTuple

from thalweg.record import PredictionRow
from thalweg.wording import split_labels


class LabelScore(NamedTuple):
    name: str
    recall: float  # share of the samples with the label that it is predicted for; NaN without any
    precision: float  # share of the predictions of the label that are right; NaN without any
    samples: int  # that bear it
    predicted: int
    right: int

    @property
    def f1(self) -> float:
        """The harmonic mean of both; 0 where nothing is right."""
        total = self.samples + self.predicted
        return 2 * self.right / total if total else 0.0


def label_scores(rows: Iterable[PredictionRow], names: Sequence[str]) -> list[LabelScore]:
    """The scores of every label, in the order of the names."""
    samples, predicted, right = Counter[str](), Counter[str](), Counter[str]()
    for row in rows:
        true, called = (set(split_labels(t, names)) for t in (row.target, row.predicted))
        samples.update(true)
        predicted.update(called)
        right.update(true & called)
    return [
        LabelScore(
            name,
            _share(right[name], samples[name]),
            _share(right[name], predicted[name]),
            samples[name],
            predicted[name],
            right[name],
        )
        for name in names
    ]


def _share(part: int, whole: int) -> float:
    return part / whole if whole else nan
