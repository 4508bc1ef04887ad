"""What a report says of a forecast: its picture, simple forecasts beside it, and who is better."""

import pytest
from report.test_html_report import Page

from thalweg.diagnosis import diagnose
from thalweg.record import RunReader, RunWriter
from thalweg.record.quantities import LOSS
from thalweg.report import render_html, render_text

EVIL = "<script>alert('x')</script>\x1b[2J"
STEPS = {"low": [1.0, 2.0], "median": [2.0, 3.0], "high": [3.0, 4.0]}


def score(name, mase):
    mae, rmse = (None if mase is None else factor * mase for factor in (10, 12))
    return {"name": name, "mase": mase, "mae": mae, "rmse": rmse, "smape": 0.1}


def forecast_run(folder, *, answer="better", own=0.7, name="sales"):
    outcome = {
        "scores": [score("this network", own), score("seasonal naive", 1.0), score("naive", None)],
        "windows": 18,
        "rival": "seasonal naive",
        "verdict": {"answer": answer, "gain": 1.0 - own, "blocks": 5},
        "trees": {"reason": "scikit-learn is not installed"},
        "steps": {"this network": [own, own], "seasonal naive": [1.0, None]},
        "bands": {"trained": 0.6, "held": 0.79, "factor": 1.3},
        "series": [{"name": name, "mase": own, "mae": 7.0, "rival": 1.0}],
        "ladder": {
            "rungs": [{"lags": 1, "train": 9.0, "val": 9.5}, {"lags": 7, "train": 5.0, "val": 6.0}],
            "network": 4.0,
            "is_scaled": False,
        },
        "picture": [
            {
                "name": name,
                "begin": 0,
                "values": [1.0, None, 2.0, 3.0, 2.0],
                "stamps": [[0, "2020-01"], [6, name]],
                "back": {"begin": 3, **STEPS},
                "ahead": {"begin": 5, **STEPS},
            }
        ],
    }
    with RunWriter(folder) as writer:
        writer.set("answers", "steps")
        writer.set("task", "forecast")
        writer.set("headline_metric", "val_mase")
        writer.set("metrics", {"val_mase": own, "val_loss": 0.4, "val_smape": 0.1})
        writer.set("forecast", outcome)
        for step in range(20):
            writer.add(LOSS, step, {"": 1 / (1 + step)})
    reader = RunReader(folder)
    return reader, diagnose(reader.history)


def test_picture_scores_bands_and_lags_are_shown(tmp_path):
    run = forecast_run(tmp_path)
    html = render_html(*run)
    words = Page(html).words
    assert html.count('<polygon class="band') == 2
    for part in (
        "this network 0.700 7.00 8.40 10.0",
        "scikit-learn is not installed",
        "widened to 1.30",
        "7 lags 5.00 6.00",
        "this network – 4.00",
    ):
        assert part in words.replace("\u202f", " ")
    text = render_text(*run, width=100)
    assert "7 lags  5.00 training, 6.00 validation" in text
    assert "MASE –" in text


@pytest.mark.parametrize(
    ("answer", "own", "title"),
    [
        ("better", 0.7, ""),
        ("worse", 1.2, "The seasonal naive forecast does better"),
        ("alike", 0.98, "Not shown to beat the seasonal naive forecast"),
    ],
)
def test_a_forecast_that_is_not_better_than_the_past_is_no_green_headline(
    tmp_path, answer, own, title
):
    text = render_text(*forecast_run(tmp_path, answer=answer, own=own), width=100)
    if title:
        assert title in text
        assert "Nothing wrong found" not in text
    else:
        assert "naive forecast does better" not in text


def test_names_of_series_are_no_markup(tmp_path):
    html = render_html(*forecast_run(tmp_path, name=EVIL))
    assert "<script>alert" not in html
    assert "\x1b" not in html


def test_an_unfinished_run_has_no_forecast_yet(tmp_path):
    with RunWriter(tmp_path) as writer:
        writer.set("answers", "steps")
        writer.add(LOSS, 0, {"": 1.0})
    reader = RunReader(tmp_path)
    assert "What it forecasts" not in render_html(reader, diagnose(reader.history))
