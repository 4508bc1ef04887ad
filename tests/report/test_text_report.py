"""The report as text and as JSON."""

import json
import re
from math import nan

import pytest
from report import sample_runs

from thalweg.diagnosis import Diagnosis, Finding, Prescription, diagnose
from thalweg.record import PredictionRow, RunReader, RunWriter
from thalweg.record.quantities import LOSS, VAL_ACCURACY, VAL_LOSS
from thalweg.report import render_json, render_text

DIAGNOSIS = Diagnosis(
    (
        Finding(
            severity="error",
            summary="with learning rate 2 the loss rose from 1.61 to 9.4",
            where="step 3",
            evidence={"first loss": 1.6094379, "late loss": 9.4},
            prescriptions=(
                Prescription(
                    change="lower the learning rate to 0.002",
                    expect="the loss falls below 1.61 within fifty steps of the beginning",
                ),
                Prescription(change="clip the gradient norm to 1", expect="no step of the loss"),
            ),
            rule="learning-rate-too-high",
            stage="optimisation",
            consequences=("loss-not-falling",),
        ),
        Finding(severity="note", summary="the head started large", rule="initial-loss"),
    ),
    ("overfitting",),
    {"dead-relu": "pass batch= to watcher.step"},
)

GOLDEN = """\
cats-1 · finished · mlp on cats/
Learning rate too high

With learning rate 2 the loss rose from 1.61 to 9.4.

where        step 3
first loss   1.61
late loss    9.40
change       lower the learning rate to 0.002
then expect  the loss falls below 1.61 within fifty
             steps of the beginning
or change    clip the gradient norm to 1
then expect  no step of the loss
explains     Loss not falling

validation accuracy  66.7 % (95 % interval 20.8 % to
                     93.9 %, n = 3)
validation loss      not a number
time                 1 h 1 min

loss                   1.00 ▁▂▃▅▆▇█                  7.00
validation accuracy  50.0 % ▁█                       66.7 %

1 of 3 validation samples are wrong

most often confused, true → predicted
  cat → 犬\\n  1 (50 %)

weakest classes
  cat   recall 50.0 %, n = 2
  犬\\n  recall 100.0 %, n = 1

training    1,234 samples
validation  3 samples
left out    1: it is HTML
note        size chosen

note         Initial loss: The head started large.
passed       Overfitting
not checked  Dead ReLU: pass batch= to watcher.step"""


@pytest.fixture
def small(tmp_path):
    with RunWriter(tmp_path / "cats-1") as writer:
        writer.set("state", "finished")
        writer.set("model", "mlp")
        writer.set("source", "cats/")
        writer.set("class_names", ["cat", "犬\n"])
        writer.set("counts", {"train": 1234, "val": 3})
        writer.set("notes", ["size chosen"])
        writer.set("time_spent", {"training": 3600.0, "validating": 61.0})
        writer.set("metrics", {"val_loss": nan, "val_accuracy": 2 / 3})
        writer.set("headline_metric", "val_accuracy")
        writer.quarantine([("x\x1b[2J", "it is HTML")])
        for step in range(7):
            writer.add(LOSS, step, {"": 1.0 + step})
        writer.add(VAL_ACCURACY, 3, {"": 0.5})
        writer.add(VAL_ACCURACY, 6, {"": 2 / 3})
        writer.add(VAL_LOSS, 6, {"": nan})
        writer.predictions(
            [
                PredictionRow("val", "a", "cat", "cat", 0.9),
                PredictionRow("val", "b", "cat", "犬\n", 0.8),
                PredictionRow("val", "c", "犬\n", "犬\n", 0.7),
            ]
        )
    return RunReader(tmp_path / "cats-1")


def test_golden_text(small):
    assert render_text(small, DIAGNOSIS, width=52) == GOLDEN


def test_colour_only_when_asked_for(small):
    assert "\x1b" not in render_text(small, DIAGNOSIS, width=80)
    colored = render_text(small, DIAGNOSIS, width=80, color=True)
    assert "\x1b[1;31mLearning rate too high\x1b[0m" in colored
    assert re.sub(r"\x1b\[[\d;]*m", "", colored) == render_text(small, DIAGNOSIS, width=80)


@pytest.mark.parametrize("width", [40, 60, 80, 100])
def test_lines_are_no_wider_than_the_terminal(tmp_path, width):
    run = sample_runs.sick(tmp_path)
    lines = render_text(run, diagnose(run.history), width=width).split("\n")
    prose = [line for line in lines if not set(line) & set("▁▂▃▄▅▆▇█")]
    assert max(map(len, prose)) <= width


def test_width_of_the_terminal_is_the_default(small, monkeypatch):
    monkeypatch.setenv("COLUMNS", "52")
    assert render_text(small, DIAGNOSIS) == GOLDEN


def strict(text):
    """JSON as the standard has it: no NaN, no Infinity."""
    return json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} in JSON"))


def test_json(small):
    report = strict(render_json(small, DIAGNOSIS))
    assert report["schema"] == 1
    assert report["state"] == "finished"
    assert report["verdict"]["title"] == "Learning rate too high"
    assert report["diagnosis"]["findings"][0]["rule"] == "learning-rate-too-high"
    assert report["metrics"] == {"val_loss": None, "val_accuracy": 2 / 3}
    assert report["curves"]["val_loss"] == {"unit": "nat", "steps": [6], "values": [None]}
    assert report["curves"]["loss"]["values"] == [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]
    cat = report["classes"][0]
    assert (cat["name"], cat["recall"], cat["precision"], cat["samples"]) == ("cat", 0.5, 1.0, 2)
    assert cat["called"] == {"cat": 1, "犬\n": 1}
    assert report["quarantined"] == [{"name": "x\x1b[2J", "reason": "it is HTML"}]


@pytest.mark.parametrize("name", ["healthy", "failed", "regression"])
def test_every_run_has_text_and_json(tmp_path, name):
    run = getattr(sample_runs, name)(tmp_path)
    diagnosis = diagnose(run.history)
    strict(render_json(run, diagnosis))
    assert render_text(run, diagnosis, width=80)


def test_a_run_just_begun(tmp_path):
    writer, run = sample_runs.just_begun(tmp_path)
    diagnosis = diagnose(run.history)
    assert "Nothing measured yet" in render_text(run, diagnosis, width=80)
    assert strict(render_json(run, diagnosis))["state"] == "running"
    writer.close()
    assert "thalweg train --resume" in render_text(run, diagnosis, width=80)
