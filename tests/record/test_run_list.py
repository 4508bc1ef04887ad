"""`list_runs` names cross-validations and ladders, with their runs below them."""

import json
import os
from dataclasses import replace

import pytest

from thalweg.record import RunWriter, list_runs
from thalweg.record.ladder import Ladder, Rung, save_ladder


def make_run(folder, *, state="finished", value=0.5, started=None):
    with RunWriter(folder) as writer:
        facts = {
            "state": state,
            "model": "mlp",
            "source": "photos",
            "headline_metric": "val_accuracy",
            "metrics": {"val_accuracy": value},
        } | ({} if started is None else {"started": started})
        for key, fact in facts.items():
            writer.set(key, fact)


def make_folds(folder, *, folds=2):
    folder.mkdir()
    score = {"mean": 0.6, "std": 0.1, "values": [0.5, 0.7]}
    content = {"schema": 1, "folds": folds, "repeats": 1, "headline_metric": "val_accuracy"}
    text = json.dumps(content | {"scores": {"val_accuracy": score}})
    (folder / "cross_validation.json").write_text(text)
    make_run(folder / "fold-1", started=100.0)
    make_run(folder / "fold-2", started=200.0)


def make_ladder(folder, **changes):
    folder.mkdir()
    rung = Rung(
        name="mlp",
        title="MLP",
        kind="network",
        score=0.9,
        low=0.8,
        high=1.0,
        samples=9,
        seconds=1.0,
    )
    ladder = Ladder(
        path=folder,
        source="photos",
        task="classification",
        metric="accuracy",
        counts={},
        state="finished",
        rungs=(rung,),
        best="mlp",
    )
    save_ladder(replace(ladder, **changes))
    make_run(folder / "mlp", started=300.0)


def test_folds_and_ladders_stand_before_their_runs(tmp_path):
    make_folds(tmp_path / "photos-folds-1")
    make_ladder(tmp_path / "photos-ladder-1")
    make_run(tmp_path / "photos-1", started=400.0)
    runs = list_runs(tmp_path)
    assert [str(run.path.relative_to(tmp_path)) for run in runs] == [
        "photos-folds-1",
        "photos-folds-1/fold-1",
        "photos-folds-1/fold-2",
        "photos-ladder-1",
        "photos-ladder-1/mlp",
        "photos-1",
    ]
    folds, ladder = runs[0], runs[3]
    assert (folds.kind, folds.state, folds.value, folds.spread) == ("folds", "finished", 0.6, 0.1)
    assert folds.model == "mlp, 2 of 2 runs"
    assert (ladder.kind, ladder.metric, ladder.value) == ("ladder", "val_accuracy", 0.9)
    assert ladder.model == "MLP, best of 1"
    assert {run.kind for run in (*runs[1:3], *runs[4:])} == {"run"}


def test_a_cross_validation_that_lacks_a_run_is_not_finished(tmp_path):
    make_folds(tmp_path / "a-folds-1", folds=5)
    assert list_runs(tmp_path)[0].state == "interrupted"


@pytest.mark.parametrize("name", ["cross_validation.json", "ladder.json"])
@pytest.mark.parametrize("text", ["", "[]", "{}", '{"folds": "x", "repeats": {}, "scores": 3}'])
def test_a_damaged_file_leaves_the_list_whole(tmp_path, name, text):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / name).write_text(text)
    make_run(tmp_path / "b-1")
    states = {run.path.name: run.state for run in list_runs(tmp_path)}
    assert states == {"a": "unreadable", "b-1": "finished"}


def test_a_database_that_is_no_file_is_listed_and_not_waited_for(tmp_path):
    make_run(tmp_path / "b-1")
    (tmp_path / "folder" / "run.db").mkdir(parents=True)
    (tmp_path / "pipe").mkdir()
    os.mkfifo(tmp_path / "pipe" / "run.db")
    states = {run.path.name: run.state for run in list_runs(tmp_path)}
    assert states == {"b-1": "finished", "folder": "unreadable", "pipe": "unreadable"}
