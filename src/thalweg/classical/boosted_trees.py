"""Gradient-boosted trees on tables: what a network has to beat there.

scikit-learn's HistGradientBoosting with its own settings, which takes categories and missing values
as they are. Trees still win on many tables: Grinsztajn et al. 2022, arXiv:2207.08815.
"""

from collections.abc import Sequence
from functools import partial
from math import inf
from time import monotonic
from typing import Any

import numpy as np

from thalweg.errors import MissingPackageError, TooLongError

FIRST_ROUNDS = 4  # timed, before the others are begun
PARTS = 8  # of the time, after each of which the clock is looked at
PILOT_ROWS = 10_000  # on which one round is timed where there are more


def fit_boosted_trees(
    rows: np.ndarray,
    targets: np.ndarray,
    *,
    is_classification: bool,
    categories: Sequence[int] = (),
    seed: int = 0,
    seconds: float = inf,
) -> Any:
    """Fit scikit-learn's model to float32 rows and return it; `categories` are places of numbers.

    The trees are the same as without a limit: further rounds are added to those made so far.
    Raises: MissingPackageError; TooLongError where it takes more than `seconds`, as the first
    rounds show, or as it turned out, by an eighth more.
    """
    build = partial(
        build_boosted_trees,
        is_classification=is_classification,
        categories=list(categories),
        seed=seed,
    )
    model = build()
    start, rounds = monotonic(), model.max_iter  # loading scikit-learn is no fitting
    if seconds < inf and len(rows) > PILOT_ROWS:
        _check_pilot(build(), rows, targets, seconds=seconds)
    model.set_params(warm_start=True, max_iter=min(FIRST_ROUNDS, rounds)).fit(rows, targets)
    needed = (monotonic() - start) * rounds / FIRST_ROUNDS
    if needed > seconds:
        raise TooLongError(needed)
    at_once = rounds if seconds == inf else max(1, int(rounds * seconds / PARTS / needed))
    while model.n_iter_ == model.max_iter < rounds:  # fewer: it has stopped early
        if monotonic() - start > seconds:
            raise TooLongError(seconds, is_bound=True)
        model.set_params(max_iter=min(rounds, model.max_iter + at_once)).fit(rows, targets)
    return model


def _check_pilot(model: Any, rows: np.ndarray, targets: np.ndarray, *, seconds: float) -> None:
    """Raise TooLongError where one round of all rows takes longer, by one of some of them."""
    rounds, sample = model.max_iter, slice(None, None, len(rows) // PILOT_ROWS)
    start = monotonic()
    model.set_params(max_iter=1, early_stopping=False).fit(rows[sample], targets[sample])
    one = (monotonic() - start) * len(rows) / len(rows[sample])
    if one > seconds:
        raise TooLongError(one * rounds)


def build_boosted_trees(*, is_classification: bool, categories: list[int], seed: int) -> Any:
    """scikit-learn's HistGradientBoosting, unfitted. Raises: MissingPackageError."""
    try:
        from sklearn import ensemble
    except ImportError as error:
        raise MissingPackageError(
            "scikit-learn is not installed", fix="pip install thalweg[demo]"
        ) from error
    name = f"HistGradientBoosting{'Classifier' if is_classification else 'Regressor'}"
    return getattr(ensemble, name)(random_state=seed, categorical_features=categories or None)
