"""The saved weights, the stages of the image size and their marks, in the terminal and the page."""

import re

import numpy as np
import pytest
from report import sample_runs
from report.test_html_report import Page

from thalweg.diagnosis import Diagnosis
from thalweg.record import PredictionRow, RunReader, RunWriter
from thalweg.record.quantities import LOSS, VAL_ACCURACY, VAL_LOSS, VAL_R2
from thalweg.report import render_html, render_text
from thalweg.report.chart import Chart, Mark, line_chart
from thalweg.report.facts import read_facts
from thalweg.report.line import plain_line
from thalweg.report.score_interval import score_interval
from thalweg.report.selection import selection_text, stages_text

WELL = Diagnosis((), ("overfitting",), {})


def run_of(
    folder, accuracies, *, step, samples=1000, by_score=True, per_epoch=10, **facts
) -> RunReader:
    """A run whose epochs ended with these accuracies; the weights of `step` were saved."""
    with RunWriter(folder) as writer:
        best = max(accuracies)
        facts = {
            "state": "finished",
            "task": "classification",
            "headline_metric": "val_accuracy",
            "class_names": ["cat", "dog"],
            "counts": {"train": 100, "val": samples},
            "input_shape": [3, 128, 96],
            "steps": per_epoch * len(accuracies),
            "steps_per_epoch": per_epoch,
            "epochs": len(accuracies),
            "metrics": {"val_accuracy": best},
            "selection": {"step": step, "by_score": by_score},
        } | facts
        for name, value in facts.items():
            writer.set(name, value)
        for at in range(per_epoch * len(accuracies)):
            writer.add(LOSS, at, {"": 1.0})
        for epoch, accuracy in enumerate(accuracies, 1):
            writer.add(VAL_ACCURACY, epoch * per_epoch - 1, {"": accuracy})
            writer.add(VAL_LOSS, epoch * per_epoch - 1, {"": 1 - accuracy})
        right = round(best * samples)
        writer.predictions(
            PredictionRow("val", f"{i}", "cat" if i % 2 else "dog", label_of(i, i < right), 0.9)
            for i in range(samples)
        )
    return RunReader(folder)


def label_of(index, is_right):
    return "cat" if (index % 2 == 1) == is_right else "dog"


def text_of(run):
    return selection_text(read_facts(run, WELL)).replace("\u202f", " ").replace("\xa0", " ")


def test_the_epoch_and_the_reason_are_said(tmp_path):
    run = run_of(tmp_path, [0.6, 0.9, 0.8], step=20)
    assert text_of(run) == "weights of epoch 2 of 3 (best validation accuracy; ties by loss)"
    shown = " ".join(render_text(run, WELL, width=100).split())
    assert "saved weights of epoch 2 of 3 (best validation accuracy; ties by loss)" in shown
    assert "Saved: weights of epoch 2 of 3" in Page(render_html(run, WELL)).words


@pytest.mark.parametrize(
    ("facts", "text"),
    [
        ({"step": 7, "by_score": False}, "weights of step 7 of 30, the last"),
        ({"step": 0}, "weights of the fitted head, before the first epoch (best"),
        ({"step": 25}, "weights of step 25 of 30 (best"),
        ({"step": 20, "selection": None}, ""),
        ({"step": 0, "steps": 0}, ""),
    ],
)
def test_other_choices_are_said_as_they_were(tmp_path, facts, text):
    said = text_of(run_of(tmp_path, [0.6, 0.9, 0.8], **facts))
    assert said.startswith(text)
    assert bool(said) == bool(text)


def test_one_validation_is_no_choice(tmp_path):
    assert "epoch 1 of 1, the only one validated" in text_of(run_of(tmp_path, [0.9], step=10))


def test_a_choice_by_few_samples_is_said_with_its_interval(tmp_path):
    """18 of 20: Wilson's interval is 69.9 % to 97.2 %; two of the other three lie in it."""
    said = text_of(run_of(tmp_path, [0.5, 0.8, 0.9, 0.75], step=30, samples=20))
    assert said.endswith(
        "; 95 % interval 69.9 % to 97.2 %, n = 20: 2 of 3 other validations are within it"
    )


def test_the_score_in_the_terminal_has_its_interval(tmp_path):
    text = render_text(run_of(tmp_path, [0.9], step=10, samples=20), WELL, width=100)
    assert "90.0 % (95 % interval 69.9 % to 97.2 %, n = 20)" in text


def test_the_interval_of_r2_covers_the_truth(tmp_path):
    """R² of y = x + e with equal variances is 0.5; of n = 100 the error of R² is about 0.1."""
    draw = np.random.default_rng(3)
    signal, noise = draw.normal(size=(2, 100))
    with RunWriter(tmp_path) as writer:
        writer.set("task", "regression")
        writer.set("metrics", {"val_r2": 0.5})
        rows = zip(signal + noise, signal, strict=True)
        writer.predictions(
            PredictionRow("val", "a", f"{target:.6g}", f"{guess:.6g}") for target, guess in rows
        )
        writer.add(VAL_R2, 0, {"": 0.5})
    interval = score_interval(read_facts(RunReader(tmp_path), WELL), "val_r2")
    assert interval.low < 0.5 < interval.high
    assert 0.2 < interval.high - interval.low < 0.6
    assert interval == score_interval(read_facts(RunReader(tmp_path), WELL), "val_r2")


def test_the_saved_weights_are_marked_in_both_charts(tmp_path):
    page = render_html(run_of(tmp_path, [0.6, 0.9, 0.8], step=20), WELL)
    assert page.count('<path class="mark best"') == 2
    assert "mark best" not in render_html(
        run_of(tmp_path / "last", [0.6, 0.9], step=20, by_score=False), WELL
    )


def test_stages_of_the_image_size_are_marked_and_explained(tmp_path):
    run = run_of(tmp_path, [0.6, 0.9, 0.8, 0.7], step=20, resizing=[[64, 20], [96, 30]])
    sizes = stages_text(read_facts(run, WELL)).replace("\u202f", " ")
    assert sizes == "64 px to epoch 2, 96 px to epoch 3, then 128 px; every validation at 128 px"
    page = render_html(run, WELL).replace("\u202f", " ")
    assert page.count('<path class="mark stage"') == 3
    assert "Training images: 64 px to epoch 2" in Page(page).words
    shown = " ".join(render_text(run, WELL, width=120).split())
    assert "image sizes 64 px to epoch 2" in shown


def test_one_size_needs_no_words(tmp_path):
    run = run_of(tmp_path, [0.6, 0.9], step=20, resizing=[])
    assert stages_text(read_facts(run, WELL)) == ""
    assert "mark stage" not in render_html(run, WELL)


def test_the_texts_of_marks_do_not_lie_over_each_other():
    marks = [Mark(step, f"mark {step}") for step in (10, 11, 12, 50, 95, 96)]
    chart = line_chart(
        Chart(key="loss", title="Loss", marks=marks, until=99),
        [plain_line("loss", "train", dict.fromkeys(range(100), 1.0) | {0: 2.0})],
    )
    texts = re.findall(r'class="mark-name event (end)? ?" x="([\d.]+)" y="([\d.]+)">([^<]+)', chart)
    assert len(texts) == len(marks)
    boxes = []
    for side, x, y, text in texts:
        width = 7.0 * len(text)
        left = float(x) - (width if side else 0)
        boxes.append((left, left + width, float(y)))
    for i, (left, right, y) in enumerate(boxes):
        for other_left, other_right, other_y in boxes[i + 1 :]:
            assert y != other_y or right <= other_left or other_right <= left


def test_a_run_of_an_older_version_says_nothing(tmp_path):
    run = sample_runs.healthy(tmp_path)
    assert text_of(run) == ""
    assert "mark best" not in render_html(run, WELL)


def test_a_score_without_recorded_predictions_has_no_interval(tmp_path):
    with RunWriter(tmp_path) as writer:
        writer.set("metrics", {"val_accuracy": 0.98})
        writer.add(VAL_ACCURACY, 0, {"": 0.98})
    assert score_interval(read_facts(RunReader(tmp_path), WELL), "val_accuracy") is None
    assert "interval" not in render_text(RunReader(tmp_path), WELL, width=100)
