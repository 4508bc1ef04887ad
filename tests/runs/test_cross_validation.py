"""Cross-validation: one run a split, and the mean and spread of their scores."""

import json
import os
import signal
import threading
from statistics import fmean, stdev
from time import sleep
from typing import Any

import pytest

import thalweg
from thalweg.api import InterruptedRunError, Progress, resume_cross_validation
from thalweg.errors import UsageError
from thalweg.recipes.recipe import edits_from_toml

QUICK: dict[str, Any] = {"epochs": 1, "batch_size": 32, "model": "mlp"}


def names_of(run):
    return [row.name for row in run.reader.predictions if row.split == "val"]


def test_every_sample_is_judged_once_by_a_run_that_has_not_seen_it(scans, tmp_path):
    result = thalweg.cross_validate(scans, folds=4, out=tmp_path, **QUICK)
    validated = [name for run in result.runs for name in names_of(run)]
    assert sorted(validated) == sorted(f"row {row}" for row in range(400))
    assert [run.path.name for run in result.runs] == [f"fold-{i}" for i in range(1, 5)]
    values = [run.metrics["val_accuracy"] for run in result.runs]
    assert result.score.values == tuple(values)
    assert result.score.mean == pytest.approx(fmean(values))
    assert result.score.std == pytest.approx(stdev(values))
    summary = json.loads((result.path / "cross_validation.json").read_text())
    assert summary["scores"]["val_accuracy"]["mean"] == pytest.approx(fmean(values))


@pytest.mark.slow
def test_repeats_draw_other_splits(scans, tmp_path):
    result = thalweg.cross_validate(scans, folds=0, repeats=3, out=tmp_path, **QUICK)
    assert len({frozenset(names_of(run)) for run in result.runs}) == 3
    assert not result.one_split
    both = thalweg.cross_validate(scans, folds=2, repeats=2, out=tmp_path, **QUICK)
    assert [run.path.name for run in both.runs] == [
        f"repeat-{repeat}-fold-{fold}" for repeat in (1, 2) for fold in (1, 2)
    ]
    assert set(names_of(both.runs[0])) != set(names_of(both.runs[2]))


@pytest.mark.slow
def test_stopped_it_is_gone_on_with_and_ends_the_same(scans, tmp_path):
    whole = thalweg.cross_validate(scans, folds=3, out=tmp_path, **QUICK)
    progress = Progress()

    def press():
        while progress.run is None or progress.run.name != "fold-2" or progress.step < 3:
            sleep(0.0005)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=press, daemon=True).start()
    with pytest.raises(InterruptedRunError) as stopped:
        thalweg.cross_validate(scans, folds=3, out=tmp_path, progress=progress, **QUICK)
    folder = stopped.value.path
    first = (folder / "fold-1" / "run.db").read_bytes()
    resumed = resume_cross_validation(folder)
    assert resumed.score.values == whole.score.values
    assert (folder / "fold-1" / "run.db").read_bytes() == first  # not made again


def test_each_run_can_be_repeated_from_its_recipe(scans, tmp_path):
    result = thalweg.cross_validate(scans, folds=3, out=tmp_path, **QUICK)
    edits = edits_from_toml(result.runs[1].path / "recipe.toml")
    alone = thalweg.train(edits=edits, out=tmp_path)
    assert alone.metrics == result.runs[1].metrics


@pytest.mark.parametrize("splits", [{"folds": 1}, {"folds": 0}, {"folds": -3}, {"repeats": 0}])
def test_too_few_splits_are_refused(scans, tmp_path, splits):
    with pytest.raises(UsageError):
        thalweg.cross_validate(scans, out=tmp_path / "runs", **splits, **QUICK)
    assert not (tmp_path / "runs").exists()
