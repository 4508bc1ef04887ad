"""Several labels a sample, from training to prediction."""

import csv
import json
import os
import signal

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

import thalweg
from thalweg.api import plan, train
from thalweg.cli.app import main
from thalweg.diagnosis import diagnose
from thalweg.errors import UsageError
from thalweg.models import MODELS
from thalweg.runs.recorder import RunRecorder

NAMES = ("ant", "bee", "cat", "dog")


def call(*words: object) -> None:
    """Run a command, which must end well."""
    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in words])
    assert not ended.value.code


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """Four labels of 60 to 10 % that three of six numbers decide, in a column each."""
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(500, 6))
    scores = inputs[:, [0, 1, 2, 0]] + [0.25, 0.0, -0.5, -1.3]
    path = tmp_path_factory.mktemp("table") / "many.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*"abcdef", *(f"label_{name}" for name in NAMES)])
        writer.writerows(
            [*row.round(4), *(row_scores > 0).astype(int)]
            for row, row_scores in zip(inputs, scores, strict=True)
        )
    return path


@pytest.fixture(scope="module")
def run(table, tmp_path_factory):
    edits = {"data.test_fraction": 0.2}
    return train(table, epochs=12, edits=edits, out=tmp_path_factory.mktemp("runs"))


def test_the_labels_are_learnt_and_no_rule_calls_it_wrong(run):
    assert run.reader.meta["task"] == "multi-label"
    assert run.reader.meta["answers"] == "labels"
    assert run.metrics["val_mean_average_precision"] > 0.9
    assert run.metrics["val_macro_f1"] > 0.7
    assert [f.rule for f in diagnose(run.reader.history).findings if f.severity == "error"] == []


def test_predictions_list_the_labels_with_their_probabilities(run, table, capsys):
    predictions = thalweg.predict(run.path, [table])
    recorded = {row.name: row for row in run.reader.predictions}
    for name, row in recorded.items():
        prediction = predictions[int(name.split()[-1]) - 2]
        assert prediction.label == row.predicted
        assert prediction.probability == pytest.approx(row.probability, rel=1e-3)
    call("predict", run.path, table, "--json")
    first = json.loads(capsys.readouterr().out)["predictions"][0]
    assert first["labels"] == list(predictions[0].labels)
    assert first["probabilities"].keys() == {f"label_{name}" for name in NAMES}
    call("predict", run.path, table, "--csv")
    assert next(csv.reader(capsys.readouterr().out.splitlines()))[4:] == [
        f"label_{name}" for name in NAMES
    ]


def test_the_reports_show_each_label_and_no_confusion_matrix(run, capsys):
    page = (run.path / "report.html").read_text(encoding="utf-8")
    assert "Each label, the weakest first" in page
    assert "Confusion" not in page
    call("diagnose", run.path)
    assert "weakest labels" in capsys.readouterr().out
    card = (run.path / "model" / "README.md").read_text(encoding="utf-8")
    assert "4 labels: label_ant" in card
    assert "from this probability on" in card


def test_the_test_split_is_scored_once_at_the_end(run):
    score = thalweg.final(run.path)
    assert score.metrics["test_mean_average_precision"] > 0.9
    assert score.uses == 1


@pytest.mark.slow
def test_every_sample_validates_in_one_fold(table, tmp_path):
    result = thalweg.cross_validate(table, folds=3, epochs=1, out=tmp_path)
    assert result.metric == "val_mean_average_precision"
    assert sum(len(run.reader.predictions) for run in result.runs) == 500


@pytest.mark.slow
def test_an_interrupted_run_is_resumed_to_the_same_weights(table, tmp_path, monkeypatch):
    whole = train(table, epochs=3, out=tmp_path / "whole")
    update = RunRecorder.record_update

    def press_at_step_five(recorder, step):
        update(recorder, step)
        if step.index == 4:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(RunRecorder, "record_update", press_at_step_five)
    with pytest.raises(thalweg.InterruptedRunError) as stopped:
        train(table, epochs=3, out=tmp_path / "stopped")
    monkeypatch.undo()
    resumed = thalweg.resume(stopped.value.path)
    weights = [load_file(r.path / "model" / "weights.safetensors") for r in (whole, resumed)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert resumed.metrics == whole.metrics


def test_a_head_for_several_labels_is_fitted_to_pretrained_features(tmp_path):
    rng, rows = np.random.default_rng(0), []
    for index in range(60):
        labels = [k for k in range(3) if rng.random() < (0.6, 0.4, 0.3)[k]] or [0]
        pixels = rng.integers(0, 60, (32, 32, 3))
        for label in labels:
            pixels[..., label] += 120
        Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / f"{index}.png")
        rows.append(f"{index}.png," + "|".join(NAMES[label] for label in labels))
    (tmp_path / "table.csv").write_text("image,tags\n" + "\n".join(rows) + "\n")
    torch.manual_seed(3)
    net = MODELS["resnet20"](10, input_shape=(3, 32, 32))
    save_file(net.state_dict(), tmp_path / "net.safetensors")
    edits = {
        "model.name": "resnet20",
        "transfer.method": "probe",
        "transfer.weights": str(tmp_path / "net.safetensors"),
        "data.target": "tags",
    }
    run = train(tmp_path / "table.csv", edits=edits, out=tmp_path / "runs")
    assert run.metrics["val_mean_average_precision"] > 0.9
    predictions = thalweg.predict(run.path, [tmp_path / row.name for row in run.reader.predictions])
    assert [p.label for p in predictions] == [row.predicted for row in run.reader.predictions]


@pytest.mark.parametrize(
    ("edits", "problem"),
    [
        ({"task.label_smoothing": 0.1}, "smoothed"),
        ({"task.loss": "cross_entropy"}, "no loss for multi-label"),
        ({"task.name": "mutli-label"}, "no task"),
    ],
)
def test_what_does_not_fit_several_labels_is_refused(table, edits, problem):
    with pytest.raises(UsageError, match=problem):
        plan(table, edits=edits)


def test_mixed_samples_have_mixed_labels(table):
    ready = plan(table, edits={"augment.mixup": 0.4})
    targets = next(ready.training_stream()).targets
    assert targets.shape[1] == 4
    assert ((targets > 0) & (targets < 1)).any()
