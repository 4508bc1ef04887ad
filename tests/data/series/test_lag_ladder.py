"""The lag-feature ladder of periodic data: linear models of 1, 7, 28 and 56 past days."""

import numpy as np
import pytest

from thalweg.data import load_dataset
from thalweg.runs.forecast_rivals import lag_ladder, lag_widths


@pytest.fixture(scope="module")
def views(tmp_path_factory):
    """Daily views with a week, as in the notes' example: fewer on Fridays and Saturdays."""
    rng = np.random.default_rng(0)
    week = np.array([1.0, 1.1, 1.2, 1.0, 0.6, 0.5, 0.9])
    level = 4_000 * np.exp(0.03 * rng.normal(size=180).cumsum())
    values = level * np.tile(week, 26)[:180] * rng.normal(1, 0.06, 180)
    days = np.datetime64("2017-01-01") + np.arange(180)
    path = tmp_path_factory.mktemp("views") / "views.csv"
    rows = [f"{day},{value:.1f}" for day, value in zip(days, values, strict=True)]
    path.write_text("\n".join(["date,views", *rows]))
    return load_dataset(path).inputs


def test_a_week_of_lags_helps_most_and_the_training_error_always_falls(views):
    rungs = lag_ladder(views)
    assert [rung.lags for rung in rungs] == [1, 7, 28, 56]
    train, val = ([getattr(rung, part) for rung in rungs] for part in ("train", "val"))
    assert train == sorted(train, reverse=True)
    assert val[1] < 0.6 * val[0]
    assert val[3] > min(val), "more lags than help: overfitting"


def test_each_rung_is_the_least_squares_of_its_lags(views):
    border = views.borders[0] - views.series[0].begin
    places = np.arange(56, border)
    for rung in lag_ladder(views):
        lags = views.past[places[:, None] + np.arange(-rung.lags, 0)].astype(np.float64)
        inputs = np.column_stack((lags, np.ones(len(lags))))
        _, residual, *_ = np.linalg.lstsq(inputs, views.future[places].astype(np.float64))
        assert rung.train == pytest.approx(np.sqrt(residual[0] / len(places)), rel=1e-4)


def test_widths_follow_the_season_and_fit_the_training_part():
    assert lag_widths(7, 500) == (1, 7, 28, 56)
    assert lag_widths(12, 120) == (1, 12, 48)
    assert lag_widths(1, 60) == (1, 7, 28)
