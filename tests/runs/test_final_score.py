"""The test split stays hidden until `final`, which counts its uses."""

import sqlite3
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_digits

import thalweg
from thalweg.api import train
from thalweg.errors import DataError, RunError

QUICK: dict[str, Any] = {"epochs": 2, "batch_size": 32, "model": "mlp"}


@pytest.fixture(scope="session")
def with_test(tmp_path_factory):
    """400 scans in given splits; the test split is the last 80."""
    digits = load_digits()
    images = (digits.images[:400] * 15.9).astype(np.uint8)
    path = tmp_path_factory.mktemp("data") / "scans.npz"
    parts = {"train": slice(0, 240), "val": slice(240, 320), "test": slice(320, 400)}
    arrays = {f"x_{name}": images[rows] for name, rows in parts.items()}
    arrays |= {f"y_{name}": digits.target[:400][rows] for name, rows in parts.items()}
    np.savez(path, **arrays)
    return path


def everything_written(run):
    """All of a run's text: the report, the card, the database's rows."""
    with sqlite3.connect(run.path / "run.db") as database:
        dump = "\n".join(database.iterdump())
    files = ("report.html", "model/README.md", "model/model.json", "recipe.toml")
    return dump + "".join((run.path / name).read_text() for name in files)


def test_nothing_of_the_test_split_shows_before_it_is_asked_for(with_test, tmp_path):
    run = train(with_test, out=tmp_path, **QUICK)
    assert run.reader.meta["counts"]["test"] == 80
    assert not [name for name in run.metrics if "test" in name]
    assert {row.split for row in run.reader.predictions} == {"val"}
    written = everything_written(run)
    assert "test_accuracy" not in written
    assert "test_loss" not in written
    hidden = {f"row {row}" for row in range(320, 400)}
    assert not {row.name for row in run.reader.predictions} & hidden
    assert not any(f"{name}<" in written or f"'{name}'" in written for name in hidden)


def test_final_scores_the_saved_model_and_records_it(with_test, tmp_path):
    run = train(with_test, out=tmp_path, **QUICK)
    score = thalweg.final(run.path)
    model = thalweg.load(run.path)
    held = np.load(with_test)
    import torch

    labels = [p.label for p in model.predict_raw(list(torch.from_numpy(held["x_test"])[..., None]))]
    expected = np.mean(np.array(labels) == held["y_test"].astype(str))
    assert score.metrics["test_accuracy"] == pytest.approx(expected)
    assert (score.samples, score.uses, score.repeated) == (80, 1, False)
    after = thalweg.Run(run.path)
    assert after.metrics["test_accuracy"] == score.metrics["test_accuracy"]
    assert after.metrics["val_accuracy"] == run.metrics["val_accuracy"]
    (event,) = [event for event in after.reader.events if event.kind == "final"]
    assert event.detail["uses"] == 1
    assert abs(event.time - score.time) < 60
    assert "used once" in (run.path / "report.html").read_text()


def test_every_model_tested_is_counted_and_none_twice(with_test, tmp_path):
    first = train(with_test, out=tmp_path, **QUICK)
    assert thalweg.final(first.path).uses == 1
    again = thalweg.final(first.path)
    assert (again.uses, again.repeated) == (1, True)
    second = train(with_test, out=tmp_path, seed=1, **QUICK)
    assert thalweg.final(second.path).uses == 2
    assert "used twice" in (second.path / "report.html").read_text()


def test_further_training_of_the_same_run_is_another_use(with_test, tmp_path):
    from runs.test_train import interrupted_at

    stopped = interrupted_at(9, with_test, out=tmp_path, **QUICK)
    early = thalweg.final(stopped.path)
    run = thalweg.api.resume(stopped.path)
    assert not [name for name in run.metrics if "test" in name]  # hidden again
    late = thalweg.final(run.path)
    assert (early.uses, late.uses) == (1, 2)
    assert not late.repeated


def test_split_that_is_not_there_is_named(scans, tmp_path):
    run = train(scans, out=tmp_path, **QUICK)
    with pytest.raises(DataError, match="no test split"):
        thalweg.final(run.path)
    with pytest.raises(RunError, match="is no run"):
        thalweg.final(tmp_path)


def test_held_out_share_is_hidden_as_well(scans, tmp_path):
    run = train(scans, out=tmp_path, edits={"data.test_fraction": 0.25}, **QUICK)
    assert run.reader.meta["counts"] == {"train": 240, "val": 60, "test": 100}
    assert not [name for name in run.metrics if "test" in name]
    assert thalweg.final(run.path).samples == 100
