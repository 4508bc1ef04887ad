"""A green verdict never stands over a score that means little."""

import numpy as np
import pytest
from report.test_selection import run_of

from thalweg.diagnosis import Diagnosis
from thalweg.errors import RunError
from thalweg.record import PredictionRow, RunReader, RunWriter
from thalweg.record.quantities import CHANCE_LOSS, LOSS
from thalweg.report import render_html, render_json, render_text
from thalweg.report.caveats import caveats
from thalweg.report.facts import read_facts
from thalweg.report.verdict import verdict

WELL = Diagnosis((), ("overfitting",), {})


def run_with(folder, rows, *, task="classification", metric="val_accuracy", **facts):
    with RunWriter(folder) as writer:
        facts = {
            "state": "finished",
            "task": task,
            "headline_metric": metric,
            "metrics": {metric: 0.5},
        } | facts
        for name, value in facts.items():
            writer.set(name, value)
        writer.add(LOSS, 0, {"": 1.0})
        writer.predictions(rows)
    return RunReader(folder)


def headline(run):
    return verdict(read_facts(run, WELL))


def labelled(counts):
    """Rows of (target, predicted) by number."""
    for (target, predicted), number in counts.items():
        for index in range(number):
            yield PredictionRow("val", f"{target} {index}", target, predicted, 0.9)


@pytest.mark.parametrize(
    ("counts", "title"),
    [
        pytest.param(
            {("cat", "cat"): 50, ("dog", "cat"): 50}, "Validation is at chance", id="majority"
        ),
        pytest.param(
            {("cat", "cat"): 25, ("cat", "dog"): 25, ("dog", "dog"): 25, ("dog", "cat"): 25},
            "Validation is at chance",
            id="coin",
        ),
        pytest.param(
            {("no", "no"): 990, ("yes", "no"): 9, ("yes", "yes"): 1},
            "Validation is not shown to be above chance",
            id="rare class",
        ),
        pytest.param(
            {("cat", "cat"): 90, ("dog", "dog"): 80, ("dog", "cat"): 10}, "", id="learned"
        ),
        pytest.param({("cat", "cat"): 5, ("dog", "dog"): 4}, "", id="few, all right"),
        pytest.param(
            {("no", "no"): 985, ("no", "yes"): 5, ("yes", "yes"): 30}, "", id="rare class, learned"
        ),
    ],
)
def test_an_accuracy_at_chance_colours_the_headline(tmp_path, counts, title):
    shown = headline(run_with(tmp_path, labelled(counts)))
    assert shown.title == (title or "Nothing wrong found")
    assert shown.tone == ("warning" if title else "good")


@pytest.mark.parametrize(("noise", "is_good"), [(0.5, True), (30.0, False)])
def test_values_no_nearer_than_the_mean_colour_the_headline(tmp_path, noise, is_good):
    draw = np.random.default_rng(0)
    targets = draw.normal(size=200)
    guesses = targets + noise * draw.normal(size=200)
    rows = [
        PredictionRow("val", "a", f"{target:.6g}", f"{guess:.6g}")
        for target, guess in zip(targets, guesses, strict=True)
    ]
    run = run_with(tmp_path, rows, task="regression", metric="val_r2", answers="values")
    assert headline(run).tone == ("good" if is_good else "warning")


@pytest.mark.parametrize(("loss", "is_good"), [(0.2, True), (0.7, False)])
def test_labels_no_surer_than_their_rates_colour_the_headline(tmp_path, loss, is_good):
    with RunWriter(tmp_path) as writer:
        for name, value in {
            "state": "finished",
            "answers": "labels",
            "metrics": {"val_loss": loss, "val_mean_average_precision": 0.5},
            "headline_metric": "val_mean_average_precision",
        }.items():
            writer.set(name, value)
        writer.add(CHANCE_LOSS, 0, {"": 0.69})
        writer.add(LOSS, 0, {"": 0.69})
    assert headline(RunReader(tmp_path)).tone == ("good" if is_good else "warning")


DUPLICATES = {"title": "Duplicates across the splits", "text": "3 contents stand in two splits"}


def test_what_the_data_lack_colours_the_headline_everywhere(tmp_path):
    run = run_of(tmp_path, [0.9], step=10, caveats=[DUPLICATES])
    assert headline(run).title == "Duplicates across the splits"
    text = render_text(run, WELL, width=100, color=True)
    assert "\x1b[1;33mDuplicates across the splits\x1b[0m" in text
    assert "3 contents stand in two splits." in text
    page = render_html(run, WELL)
    assert '<div class="verdict warning">' in page
    assert "Nothing wrong found" not in page + text
    assert '"tone": "warning"' in render_json(run, WELL)


def test_chance_goes_before_the_data(tmp_path):
    rows = list(labelled({("cat", "cat"): 50, ("dog", "cat"): 50}))
    run = run_with(tmp_path, rows, caveats=[DUPLICATES])
    shown = headline(run)
    assert shown.title == "Validation is at chance"
    assert "3 contents stand in two splits." in shown.lead
    assert [each.title for each in caveats(read_facts(run, WELL))] == [
        "Validation is at chance",
        "Duplicates across the splits",
    ]


@pytest.mark.parametrize(
    "facts",
    [
        {"caveats": [{}]},
        {"caveats": [{"title": "a"}]},
        {"caveats": [{"title": 3, "text": "b"}]},
        {"selection": {}},
        {"selection": {"step": -1, "by_score": True}},
        {"resizing": [[64]]},
        {"resizing": [["a", "b"]]},
    ],
    ids=str,
)
def test_facts_of_another_form_are_one_clear_error(tmp_path, facts):
    run = run_with(tmp_path, labelled({("cat", "cat"): 5, ("dog", "dog"): 4}), **facts)
    with pytest.raises(RunError, match="cannot be read"):
        render_text(run, WELL, width=80)


@pytest.mark.parametrize("numbers", [("1e308", "-1e308"), ("inf", "3"), ("x", "y"), ("5", "5")])
def test_values_of_any_size_end_in_a_report(tmp_path, numbers):
    rows = [PredictionRow("val", "a", *numbers)] * 30
    run = run_with(tmp_path, rows, task="regression", metric="val_r2", answers="values")
    assert render_text(run, WELL, width=80)
    assert render_html(run, WELL)
