"""Rows of a run's file beside its measurements: predictions, events, pictures, summaries."""

from collections.abc import Mapping
from math import nan
from pathlib import Path
from typing import NamedTuple

from thalweg.record.schema import JSON


class PredictionRow(NamedTuple):
    """The final weights' prediction of one sample. A regression's numbers are written as text."""

    split: str
    name: str
    target: str
    predicted: str
    probability: float = nan  # of the predicted class; NaN for a regression
    thumbnail: bytes | None = None  # a PNG or WebP, where the sample is worth showing


class Event(NamedTuple):
    """A single event of a run."""

    time: float  # seconds since 1970, UTC
    step: int  # -1: at no step
    kind: str
    message: str
    detail: Mapping[str, JSON]


class Picture(NamedTuple):
    """A picture drawn from a finished run, and its numbers."""

    numbers: Mapping[str, JSON]
    svg: bytes


class RunSummary(NamedTuple):
    """One line of a list of runs."""

    path: Path
    state: str  # running, finished, interrupted, failed, died, or unreadable
    source: str
    model: str
    metric: str  # name of the headline metric; "" before there is one
    value: float
    steps: int  # updates made
    started: float  # seconds since 1970, UTC
    kind: str = "run"  # run, folds (a cross-validation) or ladder
    spread: float = nan  # standard deviation of `value` over the runs of a cross-validation
