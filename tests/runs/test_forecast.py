"""A series from the file to the forecast of its next steps."""

import csv
import json
from io import StringIO

import numpy as np
import pytest
from runs.test_train import interrupted_at, weights_of

import thalweg
from thalweg.cli.forecast import forecast as forecast_command
from thalweg.cli.predict import predict as predict_command
from thalweg.errors import DataError, UsageError
from thalweg.record.quantities import INSTRUMENT_FAILED, LOSS
from thalweg.report import render_text

EDITS: dict[str, object] = {
    "model.changes": {"width": 16, "season": 12, "lags": 24, "quantiles": 3},
    "data.lags": 24,
    "budget.steps": 40,
    "evaluation.steps": 10,
    "evaluation.trees_seconds": 0.0,
}


def sales(count=150):
    place = np.arange(count)
    noise = np.random.default_rng(0).normal(size=count)
    return 200 + place + 30 * np.sin(2 * np.pi * place / 12) + 5 * noise


@pytest.fixture(scope="module")
def series(tmp_path_factory):
    path = tmp_path_factory.mktemp("series") / "sales.csv"
    months = np.datetime64("2010-01") + np.arange(150)
    rows = [f"{month},{value:.3f}" for month, value in zip(months, sales(), strict=True)]
    path.write_text("\n".join(["month,sales", *rows]))
    return path


@pytest.fixture(scope="module")
def run(series, tmp_path_factory):
    return thalweg.train(series, out=tmp_path_factory.mktemp("runs"), edits=EDITS)


def text_of(run):
    return " ".join(render_text(run.reader, run.diagnosis, width=100).split())


def test_it_beats_the_past_and_says_beside_what(run):
    names = {"mase", "mae", "rmse", "smape", "band_coverage", "loss"}
    assert set(run.metrics) == {f"val_{name}" for name in names}
    outcome = run.reader.meta["forecast"]
    scores = {row["name"]: row["mase"] for row in outcome["scores"]}
    assert scores["this network"] == pytest.approx(run.metrics["val_mase"], rel=1e-5)
    assert scores["this network"] < scores["seasonal naive"] < scores["naive"]
    assert outcome["verdict"]["answer"] == "better"
    assert "Nothing wrong found" in text_of(run)
    assert not run.history.by_place(INSTRUMENT_FAILED)


def test_simple_forecasts_are_those_of_the_values(run, series):
    dataset = thalweg.plan(series, edits=EDITS).dataset
    values, windows = sales(), dataset.inputs
    scale = np.abs(values[12:] - values[:-12])[: windows.borders[0] - windows.series[0].begin - 12]
    errors: dict[str, list[float]] = {"naive": [], "seasonal naive": []}
    for row in dataset.indices["val"].tolist():
        first = windows.position(row) - windows.series[0].begin
        for step in range(windows.horizon):
            truth = values[first + step]
            errors["naive"].append(abs(truth - values[first - 1]))
            errors["seasonal naive"].append(abs(truth - values[first + step - 12]))
    for score in run.reader.meta["forecast"]["scores"]:
        if score["name"] in errors:
            mean = np.mean(errors[score["name"]])
            assert score["mae"] == pytest.approx(mean, rel=1e-3)
            assert score["mase"] == pytest.approx(mean / scale.mean(), rel=1e-3)


def test_bands_hold_what_they_are_to_hold(run):
    bands = run.reader.meta["forecast"]["bands"]
    assert 0.5 < bands["held"] <= 1.0
    band = thalweg.load(run.path).module.get_buffer("band")
    assert band.item() == pytest.approx(bands["factor"], rel=1e-6)


def test_the_ladder_of_lags_falls_in_training(run):
    rungs = run.reader.meta["forecast"]["ladder"]["rungs"]
    assert [rung["lags"] for rung in rungs] == [1, 12, 48]
    errors = [rung["train"] for rung in rungs]
    assert errors == sorted(errors, reverse=True)
    assert "linear models of ever more lags" in text_of(run)


def test_the_page_shows_the_forecast(run):
    page = run.report().read_text()
    assert "What it forecasts" in page
    assert '<svg id="forecast-0"' in page
    assert "Linear models of ever more lags" in page


def test_the_next_steps_are_printed_as_csv(run, capsys):
    forecast_command(run.path, csv=True)
    rows = list(csv.DictReader(StringIO(capsys.readouterr().out)))
    assert [row["time"] for row in rows[:2]] == ["2022-07", "2022-08"]
    assert len(rows) == 12
    truth = sales(162)[150:]
    assert np.mean([abs(float(r["forecast"]) - t) for r, t in zip(rows, truth, strict=True)]) < 20
    assert all(float(r["low"]) < float(r["forecast"]) < float(r["high"]) for r in rows)
    forecast_command(run.path, json=True)
    (one,) = json.loads(capsys.readouterr().out)["forecasts"]
    assert one["series"] == "sales"
    assert one["median"] == pytest.approx([float(row["forecast"]) for row in rows])


def test_a_file_that_ends_earlier_is_forecast_from_its_end(run, series, tmp_path, capsys):
    (whole,) = thalweg.forecast(run.path)
    lines = series.read_text().splitlines()
    (tmp_path / "same.csv").write_text("\n".join(lines))
    (again,) = thalweg.forecast(run.path, tmp_path / "same.csv")
    assert again == whole
    (tmp_path / "begun.csv").write_text("\n".join(lines[:100]))
    (begun,) = thalweg.forecast(run.path, tmp_path / "begun.csv")
    assert begun.times[0] == "2018-04"
    assert predict_command(run.path, tmp_path / "begun.csv", json=True) == 0
    (row,) = json.loads(capsys.readouterr().out)["predictions"]
    assert row["window"] == "sales, 2018-04 to 2019-03"
    assert float(row["label"].split(",")[0]) == pytest.approx(begun.median[0], rel=1e-5)
    (tmp_path / "short.csv").write_text("\n".join(lines[:10]))
    with pytest.raises(DataError, match=r"no series in .* is long enough"):
        thalweg.forecast(run.path, tmp_path / "short.csv")


@pytest.mark.parametrize("step", [15])
def test_it_is_resumed_to_the_same_bit(run, series, tmp_path, step):
    stopped = interrupted_at(step, series, out=tmp_path, edits=EDITS)
    resumed = thalweg.resume(stopped.path)
    assert weights_of(resumed) == weights_of(run)
    assert resumed.history.series(LOSS) == run.history.series(LOSS)
    assert resumed.reader.meta["forecast"] == run.reader.meta["forecast"]


def test_what_has_no_time_is_not_forecast(tmp_path, scans):
    other = thalweg.train(scans, out=tmp_path, model="mlp", epochs=1)
    with pytest.raises(UsageError, match="forecasts no series"):
        thalweg.forecast(other.path)


@pytest.mark.trees
def test_trees_on_lags_stand_beside(series, tmp_path):
    edits = {**EDITS, "budget.steps": 4, "evaluation.trees_seconds": 60.0}
    beside = thalweg.train(series, out=tmp_path, edits=edits)
    assert "boosted trees on lags" in text_of(beside)
    assert beside.reader.meta["forecast"]["trees"]["rounds"] == 100


def test_a_table_of_the_same_file_is_asked_for_by_the_task(series):
    plan = thalweg.plan(series, task="regression")
    assert plan.dataset.facts.modality == "vector"
    assert thalweg.plan(series).recipe.task.name == "forecast"
