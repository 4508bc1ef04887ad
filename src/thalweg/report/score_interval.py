"""The 95 % interval of a score over the samples that it was measured on."""

from collections.abc import Sequence
from functools import lru_cache
from math import isfinite
from typing import NamedTuple

import numpy as np

from thalweg.record import PredictionRow
from thalweg.report.facts import Facts
from thalweg.statistics import wilson_interval
from thalweg.wording import count, figure, percent

RESAMPLES = 500
MOST_SAMPLES = 20_000  # of which R² is resampled; of more its interval is narrow


class ScoreInterval(NamedTuple):
    """The ends of a 95 % interval, and the number of samples that it is over."""

    low: float
    high: float
    samples: int
    is_share: bool

    def __str__(self) -> str:
        low, high = (percent(end) if self.is_share else figure(end) for end in self[:2])
        return f"95 % interval {low} to {high}, n\u00a0=\u00a0{count(self.samples)}"


def score_interval(facts: Facts, metric: str) -> ScoreInterval | None:
    """The interval of an accuracy (Wilson) or of R² (bootstrap); None for other metrics.

    Also None where no predictions are recorded, as of a loop that is only watched.
    """
    split, _, name = metric.partition("_")
    rows = [row for row in facts.every_prediction if row.split == split]
    if not rows:
        return None
    if name == "accuracy" and facts.answers == "classes":
        right = sum(row.target == row.predicted for row in rows)
        return ScoreInterval(*wilson_interval(right, len(rows)), len(rows), is_share=True)
    if name == "r2" and facts.answers == "values":
        return _r2_interval(*(column.tobytes() for column in target_and_predicted(rows)))
    return None


def target_and_predicted(rows: Sequence[PredictionRow]) -> tuple[np.ndarray, np.ndarray]:
    """The numbers of a regression's rows, float64 each; rows without two numbers are left out."""
    pairs = [(_number(row.target), _number(row.predicted)) for row in rows]
    table = np.array([pair for pair in pairs if all(map(isfinite, pair))]).reshape(-1, 2)
    return table[:, 0], table[:, 1]


@lru_cache(maxsize=4)
def _r2_interval(target_bytes: bytes, predicted_bytes: bytes) -> ScoreInterval | None:
    """The percentile bootstrap (Efron & Tibshirani 1993, §13.3); every call draws the same.

    A report shows it in three places.
    """
    targets, predicted = (np.frombuffer(data) for data in (target_bytes, predicted_bytes))
    size = len(targets)
    if not 2 <= size <= MOST_SAMPLES:
        return None
    random, scores = np.random.default_rng(0), []
    with np.errstate(all="ignore"):  # numbers of somebody's run may overflow
        errors = np.square(predicted - targets)
        for _ in range(RESAMPLES):
            rows = random.integers(size, size=size)
            spread = np.square(targets[rows] - targets[rows].mean()).sum()
            if spread > 0:
                scores.append(float(1 - errors[rows].sum() / spread))
    if not scores or not all(map(isfinite, scores)):
        return None
    low, high = np.quantile(scores, (0.025, 0.975)).tolist()
    return ScoreInterval(low, high, size, is_share=False)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")
