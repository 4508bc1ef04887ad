"""A training from end to end: its files, and what a disturbance leaves of them."""

import os
import shutil
import signal
import threading
from hashlib import sha256
from time import sleep
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

import thalweg
from thalweg.api import FailedRunError, InterruptedRunError, Progress, plan, resume, train
from thalweg.errors import DataError, RunError, UnknownNameError, UsageError
from thalweg.recipes.recipe import recorded_recipe
from thalweg.record.quantities import EVAL_MODE_LOSS, LOSS, VAL_LOSS

QUICK: dict[str, Any] = {"epochs": 2, "batch_size": 32, "model": "mlp"}


def weights_of(run):
    return sha256((run.path / "model" / "weights.safetensors").read_bytes()).hexdigest()


def interrupted_at(step, path, **options):
    """Train until Ctrl-C is pressed after `step` steps; the folder that is left."""
    progress = Progress()

    def press():
        while progress.step < step:
            sleep(0.0005)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=press, daemon=True).start()
    with pytest.raises(InterruptedRunError) as stopped:
        train(path, progress=progress, **options)
    return stopped.value


def test_run_is_whole(scans, tmp_path):
    run = train(scans, out=tmp_path, **QUICK)
    present = {entry.name for entry in run.path.iterdir()}
    assert {"recipe.toml", "run.db", "checkpoints", "model", "report.html"} <= present
    assert run.reader.state == "finished"
    assert len(run.history.series(LOSS)) == run.reader.meta["steps"]
    assert len(run.history.series(VAL_LOSS)) == 2
    assert set(run.metrics) >= {"val_loss", "val_accuracy"}


def test_loaded_model_predicts_what_the_run_recorded(scans, tmp_path):
    run = train(scans, out=tmp_path, **QUICK)
    model = thalweg.load(run.path)
    rows = [row for row in run.reader.predictions if row.split == "val"]
    dataset = plan(scans).dataset
    row_of = {name: index for index, name in enumerate(dataset.names)}
    raw = [torch.from_numpy(np.array(dataset.inputs[row_of[row.name]])) for row in rows]
    assert [prediction.label for prediction in model.predict_raw(raw)] == [
        row.predicted for row in rows
    ]


def test_picture_file_is_predicted(tmp_path):
    from PIL import Image

    from thalweg.data.digits import write_digits

    write_digits(tmp_path / "digits")
    run = train(tmp_path / "digits", out=tmp_path, epochs=3)
    seven = (load_digits().images[7] * 15.9).astype(np.uint8)
    Image.fromarray(seven).save(tmp_path / "seven.png")
    (prediction,) = thalweg.predict(run.path, [tmp_path / "seven.png"])
    assert prediction.label == "7"
    assert sum(prediction.probabilities.values()) == pytest.approx(1)


def test_same_seed_same_weights(scans, tmp_path):
    first, second = (train(scans, out=tmp_path, **QUICK) for _ in range(2))
    other = train(scans, out=tmp_path, seed=1, **QUICK)
    assert weights_of(first) == weights_of(second) != weights_of(other)
    assert first.history.series(LOSS) == second.history.series(LOSS)


@pytest.mark.parametrize(
    "step", [pytest.param(step, marks=pytest.mark.slow) for step in (1, 7, 13)] + [10]
)
def test_interrupted_and_resumed_equals_uninterrupted(scans, tmp_path, step):
    whole = train(scans, out=tmp_path, model="convnet", epochs=2, batch_size=32)
    stopped = interrupted_at(step, scans, out=tmp_path, model="convnet", epochs=2, batch_size=32)
    assert stopped.exit_code == 130
    assert thalweg.Run(stopped.path).reader.state == "interrupted"
    assert (stopped.path / "report.html").exists()
    resumed = resume(stopped.path)
    assert weights_of(resumed) == weights_of(whole)
    assert resumed.history.series(LOSS) == whole.history.series(LOSS)
    assert resumed.metrics == whole.metrics


@pytest.mark.parametrize("step", [2, pytest.param(6, marks=pytest.mark.slow)])
def test_photographs_are_resumed_while_they_are_small_and_after(tmp_path, step):
    """Their recipe: Muon, and images that grow; the end is looked at in the size of validation."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (80, 72, 72, 3), dtype=np.uint8)
    np.savez(tmp_path / "photos.npz", images=images, labels=np.arange(80) % 2)
    options = {"out": tmp_path, "epochs": 2, "edits": {"model.changes": {"width": 8}}}
    whole = train(tmp_path / "photos.npz", **options)
    assert recorded_recipe(whole.path).optimizer.name == "muon"
    stopped = interrupted_at(step, tmp_path / "photos.npz", **options)
    resumed = resume(stopped.path)
    assert weights_of(resumed) == weights_of(whole)
    assert resumed.history.series(LOSS) == whole.history.series(LOSS)
    assert whole.history.by_place(EVAL_MODE_LOSS)


def test_a_finished_run_that_lost_its_model_is_an_error_when_resumed(scans, tmp_path):
    path = thalweg.train(scans, epochs=1, model="mlp", out=tmp_path).path
    shutil.rmtree(path / "model")
    with pytest.raises(RunError, match="there is no trained model") as error:
        thalweg.resume(path)
    assert "train anew: thalweg train --config" in error.value.fix


def test_finished_run_is_left_alone(scans, tmp_path):
    run = train(scans, out=tmp_path, **QUICK)
    before = (run.path / "run.db").read_bytes()
    assert resume(run.path).path == run.path
    assert (run.path / "run.db").read_bytes() == before


def test_changed_data_is_not_resumed(scans, tmp_path):
    copy = tmp_path / "scans.npz"
    copy.write_bytes(scans.read_bytes())
    stopped = interrupted_at(3, copy, out=tmp_path, **QUICK)
    held = np.load(scans)
    np.savez(copy, images=held["images"][:300], labels=held["labels"][:300])
    with pytest.raises(RunError, match="has changed since the run began"):
        resume(stopped.path)


def test_loss_that_is_no_number_stops_before_the_update(scans, tmp_path):
    with pytest.raises(FailedRunError) as failed:
        train(scans, out=tmp_path, lr=1e30, **QUICK)
    assert failed.value.problem.startswith("the loss of step 1 is")
    assert "output of body." in failed.value.seen  # the first module that went bad
    assert "row " in failed.value.seen  # the samples are named
    run = thalweg.Run(failed.value.path)
    assert "learning rate" in failed.value.fix
    assert run.reader.state == "failed"
    assert run.diagnosis.headline is not None
    assert (run.path / "report.html").exists()
    saved = torch.cat([w.flatten() for w in _checkpointed_weights(run)])
    assert saved.isfinite().all()


@pytest.mark.parametrize(
    ("data", "edits"),
    [
        ("scans", {"model": "mlp"}),
        ("scans", {"model": "convnet", "batch_size": 64}),  # its running variance overflows
        ("diabetes", {}),  # dropout, of which no search for the place is a validation
    ],
)
def test_a_rate_that_overflows_at_once_is_the_cause(data, edits, request, tmp_path):
    with pytest.raises(FailedRunError) as failed:
        train(request.getfixturevalue(data), out=tmp_path, epochs=2, lr=1e25, **edits)
    (cause,) = thalweg.Run(failed.value.path).diagnosis.causes
    assert cause.rule == "learning-rate-too-high"


def _checkpointed_weights(run):
    from safetensors.torch import load_file

    newest = max((run.path / "checkpoints").iterdir())
    tensors = load_file(newest / "state.safetensors")
    return [tensor for tensor in tensors.values() if tensor.is_floating_point()]


def test_regression_learns(diabetes, tmp_path):
    run = train(diabetes, out=tmp_path)
    assert run.reader.meta["task"] == "regression"
    assert run.metrics["val_r2"] > 0.3  # a linear model reaches about 0.5 on these patients


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        pytest.param({"modle": "mlp"}, TypeError, "modle", id="option"),
        pytest.param({"model": "resnet81"}, UnknownNameError, "did you mean resnet18", id="model"),
        pytest.param({"epochs": 0}, UsageError, "budget.epochs", id="no epochs"),
        pytest.param({"lr": -1.0}, UsageError, "optimizer.lr", id="negative lr"),
        pytest.param({"lr": float("nan")}, UsageError, "optimizer.lr", id="lr not a number"),
        pytest.param({"edits": {"model.changes": {"widht": 8}}}, UsageError, "widht", id="change"),
        pytest.param({"device": "abacus"}, UsageError, "abacus", id="device"),
        pytest.param(
            {"edits": {"task.name": "clasification"}},
            UnknownNameError,
            "did you mean classification",
            id="task",
        ),
        pytest.param({"edits": {"optimizer.lrr": 1}}, UnknownNameError, "optimizer.lr", id="key"),
    ],
)
def test_wrong_options_are_refused_before_a_run_exists(scans, tmp_path, options, error, text):
    with pytest.raises(error, match=text):
        train(scans, out=tmp_path / "runs", **options)
    assert not (tmp_path / "runs").exists()


def test_missing_data_is_named(tmp_path):
    with pytest.raises(DataError, match="nowhere"):
        train(tmp_path / "nowhere", out=tmp_path)


def test_damaged_model_is_refused(scans, tmp_path):
    run = train(scans, out=tmp_path, **QUICK)
    path = run.path / "model" / "weights.safetensors"
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)
    with pytest.raises(RunError, match="damaged"):
        thalweg.load(run.path)
