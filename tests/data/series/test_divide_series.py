"""Windows of series: split by time without leakage, scaled by the training part, flat in memory."""

import numpy as np
import pytest

from thalweg.data import load_dataset
from thalweg.data.series.options import SeriesOptions
from thalweg.data.series.season import autocorrelated_season
from thalweg.data.series.windows import filled, scale_of
from thalweg.errors import DataError, UsageError


def write(folder, values, *, name="y", start="2015-01"):
    months = np.datetime64(start) + np.arange(len(values))
    path = folder / "series.csv"
    cells = ["" if np.isnan(value) else f"{value:.9g}" for value in values]
    rows = [f"{month},{cell}" for month, cell in zip(months, cells, strict=True)]
    path.write_text("\n".join([f"month,{name}", *rows]))
    return path


@pytest.fixture
def ramp(tmp_path):
    """Each value is its own place, so that a window says where it is."""
    return write(tmp_path, np.arange(120.0))


def in_units(batch, row, lags):
    *targets, location, scale = batch["targets"][row].astype(np.float64).tolist()
    inputs = batch["inputs"][row].astype(np.float64)
    past = inputs[:lags] * np.exp(inputs[-1])
    return [np.array(part) * scale + location for part in (past.tolist(), targets)]


def test_windows_hold_the_values_before_and_after_and_none_crosses_the_border(ramp):
    dataset = load_dataset(ramp, series=SeriesOptions(horizon=6, lags=12), test_fraction=0.1)
    windows, border, test = dataset.inputs, 86, 108
    assert windows.borders[1] - windows.series[0].begin == test
    border = windows.borders[0] - windows.series[0].begin
    begins = {"train": 12, "val": border, "test": test}
    ends = {"train": border, "val": test, "test": 120}
    for split, rows in dataset.indices.items():
        batch = windows.at(rows)
        for row in range(len(rows)):
            past, future = in_units(batch, row, 12)
            first = round(future[0])
            np.testing.assert_allclose(past, np.arange(first - 12, first), atol=1e-3)
            np.testing.assert_allclose(future, np.arange(first, first + 6), atol=1e-3)
            assert begins[split] <= first
            assert first + 6 <= ends[split]
        assert len(rows) == ends[split] - begins[split] - 5


def test_the_future_changes_no_training_window(tmp_path):
    values = np.random.default_rng(0).normal(size=120).cumsum()
    options = SeriesOptions(horizon=6, lags=12, season=12)
    before = load_dataset(write(tmp_path, values), series=options)
    border = before.inputs.borders[0] - before.inputs.series[0].begin
    values[border:] *= 1000
    after = load_dataset(write(tmp_path, values), series=options)
    rows = before.indices["train"]
    assert np.array_equal(rows, after.indices["train"])
    for name, tensor in before.inputs.at(rows).items():
        assert np.array_equal(tensor, after.inputs.at(rows)[name]), name


def test_all_series_are_cut_at_the_same_moment(tmp_path):
    lines = ["series,month,y"]
    for name, first, count in (("old", 0, 60), ("long", 0, 120), ("new", 100, 20)):
        months = np.datetime64("2015-01") + np.arange(first, first + count)
        lines += [f"{name},{month},{n % 7}" for n, month in enumerate(months)]
    path = tmp_path / "long.csv"
    path.write_text("\n".join(lines))
    dataset = load_dataset(path, series=SeriesOptions(horizon=3, lags=6))
    owners = {s: set(dataset.inputs.owners[r].tolist()) for s, r in dataset.indices.items()}
    assert owners == {"train": {0, 1}, "val": {1, 2}, "test": set()}


def test_a_gap_is_filled_by_the_past_and_is_no_target(tmp_path):
    values = np.arange(120.0)
    values[50:53] = np.nan
    windows = load_dataset(write(tmp_path, values), series=SeriesOptions(season=12)).inputs
    assert np.isnan(windows.future[50:53]).all()
    expected = (np.arange(38, 41) - windows.scales[0].location) / windows.scales[0].scale
    np.testing.assert_allclose(windows.past[50:53], expected, rtol=1e-6)
    assert filled(np.array([5.0, np.nan, np.nan]), 12).tolist() == [5.0, 5.0, 5.0]


def test_the_scale_is_the_seasonal_naive_error():
    values = np.tile([1.0, 2.0, 4.0], 5) + np.repeat(np.arange(5), 3)
    assert scale_of(values, 3).scale == 1.0
    assert scale_of(np.full(9, 7.0), 3).scale == 7.0


def test_a_season_that_the_calendar_does_not_know_is_found():
    place = np.arange(200)
    noise = np.random.default_rng(0).normal(size=200)
    assert autocorrelated_season(np.sin(2 * np.pi * place / 11) + 0.01 * place + noise / 5) == 11
    assert autocorrelated_season(noise) == 1
    assert autocorrelated_season(noise.cumsum()) == 1


def test_neighbouring_windows_share_their_memory(tmp_path):
    windows = load_dataset(write(tmp_path, np.arange(5_000.0) % 12, start="1700-01")).inputs
    sizes = [
        getattr(windows, name).nbytes
        for name in ("past", "future", "places", "owners", "starts", "splits")
    ]
    assert sum(sizes) < 60 * 5_000


@pytest.mark.parametrize(
    ("count", "options", "error", "problem"),
    [
        (6, {"time": "month"}, DataError, "too short"),
        (40, {"horizon": 30}, DataError, "too short to forecast 30 steps"),
        (40, {"lags": 39}, DataError, "too short for windows of 39 past"),
        (40, {"horizon": 20_000}, UsageError, "data.horizon cannot be 20,000"),
    ],
)
def test_what_cannot_be_divided_is_refused(tmp_path, count, options, error, problem):
    path = write(tmp_path, np.arange(float(count)))
    with pytest.raises(error, match=problem):
        load_dataset(path, series=SeriesOptions(**options))


def test_a_constant_series_has_nothing_to_forecast(tmp_path):
    with pytest.raises(DataError, match="is the same"):
        load_dataset(write(tmp_path, np.full(60, 5.0)))


def test_a_horizon_without_time_is_refused():
    with pytest.raises(UsageError, match="a table without time has no forecast"):
        SeriesOptions(time="none", lags=3).check()


def test_folds_would_train_on_the_future(ramp):
    with pytest.raises(UsageError, match="cannot be divided into folds"):
        load_dataset(ramp, folds=3)
