"""Trees fitted part by part are those of one fit, and they keep their time."""

from math import inf

import numpy as np
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

from thalweg.classical.boosted_trees import PILOT_ROWS, fit_boosted_trees
from thalweg.errors import TooLongError


def table(rows, classes=0):
    draw = np.random.default_rng(0)
    inputs = draw.normal(size=(rows, 5)).astype(np.float32)
    inputs[::9, 2] = np.nan
    inputs[:, 4] = draw.integers(0, 4, rows)
    values = inputs[:, 0] + inputs[:, 1] * (inputs[:, 4] == 2) + draw.normal(size=rows) / 4
    if not classes:
        return inputs, values.astype(np.float32)
    edges = np.quantile(values, np.arange(1, classes) / classes)
    return inputs, np.searchsorted(edges, values)


@pytest.mark.parametrize("classes", [0, 2, 3])
@pytest.mark.parametrize("seconds", [inf, 1000.0])
def test_they_are_those_of_one_fit(classes, seconds):
    rows, targets = table(400, classes)
    kind = HistGradientBoostingClassifier if classes else HistGradientBoostingRegressor
    reference = kind(random_state=3, categorical_features=[4]).fit(rows, targets)
    model = fit_boosted_trees(
        rows, targets, is_classification=bool(classes), categories=[4], seed=3, seconds=seconds
    )
    assert np.array_equal(model.predict(rows), reference.predict(rows))


def test_many_parts_are_those_of_one_fit(monkeypatch):
    monkeypatch.setattr("thalweg.classical.boosted_trees.PARTS", 10**9)  # a round a part
    rows, targets = table(200)
    reference = HistGradientBoostingRegressor(random_state=0).fit(rows, targets)
    model = fit_boosted_trees(rows, targets, is_classification=False, seconds=1000.0)
    assert np.array_equal(model.predict(rows), reference.predict(rows))


def test_early_stopping_is_that_of_one_fit():
    rows, targets = table(PILOT_ROWS + 500)
    targets[:] = np.random.default_rng(1).normal(size=len(targets))  # nothing to learn
    reference = HistGradientBoostingRegressor(random_state=0).fit(rows, targets)
    model = fit_boosted_trees(rows, targets, is_classification=False, seconds=1000.0)
    assert model.n_iter_ == reference.n_iter_ < 100
    assert np.array_equal(model.predict(rows), reference.predict(rows))


@pytest.mark.parametrize("count", [200, PILOT_ROWS + 500])
def test_what_does_not_fit_is_not_begun(count):
    rows, targets = table(count)
    with pytest.raises(TooLongError, match="needs about"):
        fit_boosted_trees(rows, targets, is_classification=False, seconds=1e-6)


def test_what_proves_too_long_is_interrupted(monkeypatch):
    """The clock leaps an hour between the parts."""
    times = iter([0.0, 0.3, 0.4, *range(3600, 36000, 3600)])
    monkeypatch.setattr("thalweg.classical.boosted_trees.monotonic", lambda: next(times))
    rows, targets = table(200)
    with pytest.raises(TooLongError, match="takes more than 10 s"):
        fit_boosted_trees(rows, targets, is_classification=False, seconds=10.0)
