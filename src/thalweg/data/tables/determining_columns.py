"""Columns that tell the target by themselves: most often a leak of the target into the inputs."""

from collections.abc import Sequence

import numpy as np

from thalweg.data.caveat import Caveat

LEAST_ROWS = 100  # for the test; half of them are held out
MOST_ROWS = 4_000
LEAST_SCORE = 0.995  # R², or accuracy, of held-out rows by the column alone
LARGEST_ERROR = 0.1  # of the error of the largest class: classes may be rare


def determining_notes(
    rows: np.ndarray, targets: np.ndarray, *, train: np.ndarray, names: Sequence[str]
) -> list[str]:
    """A note for each number of a row that determines the target of held-out training rows.

    The prediction is the target of the row with the nearest value, or interpolated between two. It
    tells a copy, a scaling and a recoding of the target alike, also for categories and dates.
    """
    if len(train) < LEAST_ROWS or len(names) != rows.shape[1]:
        return []
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
