"""Columns that tell the target by themselves: most often a leak of the target into the inputs."""

from collections.abc import Sequence
from math import exp, lgamma

import numpy as np

from thalweg.data.caveat import Caveat

LEAST_ROWS = 100  # for the test; half of them are held out
MOST_CHANCE = 1e-6  # that a column of fewer rows is a recoding by coincidence
MOST_ROWS = 4_000
LEAST_SCORE = 0.995  # R², or accuracy, of held-out rows by the column alone
LARGEST_ERROR = 0.1  # of the error of the largest class: classes may be rare


def determining_notes(
    rows: np.ndarray, targets: np.ndarray, *, train: np.ndarray, names: Sequence[str]
) -> list[str]:
    """A note for each number of a row that determines the target of held-out training rows.

    The prediction is the target of the row with the nearest value, or interpolated between two. It
    tells a copy, a scaling and a recoding of the target alike, also for categories and dates. In
    few rows a good column may separate the classes: there it must have a value for each of them.
    """
    if len(names) != rows.shape[1]:
        return []
    if len(train) < LEAST_ROWS:
        return _recoding_notes(rows[train], targets[train], names=names)
    chance = np.random.default_rng(0)
    order = chance.permutation(train)[:MOST_ROWS]
    fit, held = order[::2], order[1::2]
    notes: list[str] = []
    for name, values in zip(names, rows.T, strict=True):
        score = _score(values, targets, fit=fit, held=held)
        if score >= LEAST_SCORE:
            measure = "R²" if targets.dtype.kind == "f" else "accuracy"
            text = (
                f"the column {name!r} alone determines the target ({measure} {score:.3f} on "
                "held-out rows): leave it out if it is not known before the target is"
            )
            notes.append(Caveat(text, "A column determines the target"))
    return notes


def _recoding_notes(rows: np.ndarray, targets: np.ndarray, *, names: Sequence[str]) -> list[str]:
    """A note for each column that has one value for each class and no other."""
    if targets.dtype.kind == "f":
        return []
    notes: list[str] = []
    for name, values in zip(names, rows.T, strict=True):
        is_there = ~np.isnan(values)
        chance = recoding_chance(values[is_there], targets[is_there])
        if chance * len(names) < MOST_CHANCE:
            text = (
                f"the column {name!r} has one value for each class, in {is_there.sum():,} training "
                "rows: leave it out if it is not known before the target is"
            )
            notes.append(Caveat(text, "A column determines the target"))
    return notes


def recoding_chance(values: np.ndarray, targets: np.ndarray) -> float:
    """The probability that targets in random order match the values one to one, if these do; or 1.

    Of the n! orders, num_classes!·Π counts! at most match.
    """
    pairs = {*zip(values.tolist(), targets.tolist(), strict=True)}
    classes, counts = np.unique(targets, return_counts=True)
    if not len(pairs) == len(classes) == len(np.unique(values)) > 1:
        return 1.0
    orders = sum(lgamma(int(count) + 1) for count in counts) - lgamma(len(targets) + 1)
    return exp(min(0.0, orders + lgamma(len(classes) + 1)))


def _score(values: np.ndarray, targets: np.ndarray, *, fit: np.ndarray, held: np.ndarray) -> float:
    """R² or accuracy of the nearest value's target; 0 for a score that chance explains."""
    fit, held = (part[~np.isnan(values[part])] for part in (fit, held))
    if min(len(fit), len(held)) < LEAST_ROWS // 4:
        return 0.0
    fit = fit[np.argsort(values[fit], kind="stable")]
    held = held[(values[held] >= values[fit[0]]) & (values[held] <= values[fit[-1]])]
    truth = targets[held]
    if targets.dtype.kind == "f":
        guess = np.interp(values[held], values[fit], targets[fit])
        spread = np.square(truth - truth.mean(dtype=np.float64)).sum()
        return float(1 - np.square(guess - truth).sum() / spread) if spread else 0.0
    places = np.searchsorted(values[fit], values[held]).clip(1, len(fit) - 1)
    left, right = values[fit[places - 1]], values[fit[places]]
    nearest = fit[np.where(values[held] - left < right - values[held], places - 1, places)]
    error = float((targets[nearest] != truth).mean())
    majority = float(1 - np.bincount(truth).max() / len(truth))
    return 1 - error if error <= LARGEST_ERROR * majority else 0.0
