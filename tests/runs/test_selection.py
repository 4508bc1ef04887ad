"""The weights that a run saves: the best score, and of equal scores the smaller loss."""

import math
from dataclasses import replace
from time import monotonic

import pytest

import thalweg
from thalweg.planning.make_plan import make_plan
from thalweg.planning.progress import Progress
from thalweg.record import RunReader
from thalweg.record.quantities import VAL_ACCURACY, VAL_LOSS
from thalweg.runs import fit
from thalweg.runs.recorder import TIME_UP, BestStep, RunRecorder
from thalweg.training.evaluate import Evaluation


@pytest.mark.parametrize(
    ("score", "loss", "is_better"),
    [
        (0.9, 5.0, True),
        (0.8, 0.4, True),
        (0.8, 0.5, False),
        (0.8, math.nan, False),
        (0.7, 0.1, False),
        (math.nan, 0.1, False),
    ],
)
def test_ties_are_decided_by_the_loss(score, loss, is_better):
    assert BestStep(10, 0.8, loss=0.5).is_worse_than(score, loss) == is_better


def test_weights_of_an_older_checkpoint_tie_with_nothing():
    assert not BestStep(10, 0.8).is_worse_than(0.8, 0.0)
    assert BestStep(10, 0.8).to_dict() == {"step": 10, "score": 0.8, "loss": None}
    assert BestStep().is_worse_than(0.0, math.inf)


def test_a_run_records_which_weights_it_saved(scans, tmp_path):
    run = thalweg.train(scans, model="mlp", epochs=4, out=tmp_path)
    meta, history = run.reader.meta, run.history
    pairs = {
        step: (history[VAL_ACCURACY.name][step], -loss)
        for step, loss in history[VAL_LOSS.name].items()
    }
    best = max(pairs, key=lambda step: pairs[step])
    assert meta["selection"] == {"step": best + 1, "by_score": True}
    assert meta["metrics"]["val_accuracy"] == pairs[best][0]
    assert meta["metrics"]["val_loss"] == pytest.approx(-pairs[best][1])
    assert meta["resizing"] == []
    epoch = meta["selection"]["step"] // meta["steps_per_epoch"]
    assert f"weights of epoch {epoch} of 4" in (run.path / "report.html").read_text()


def test_of_equal_scores_the_smaller_loss_is_saved(scans, tmp_path, monkeypatch):
    losses = iter((0.5, 0.2, 0.9))

    def same_score(self, evaluation, done):
        original(self, with_score(evaluation, next(losses)), done)

    original = RunRecorder.record_validation
    monkeypatch.setattr(RunRecorder, "record_validation", same_score)
    run = thalweg.train(scans, model="mlp", epochs=3, out=tmp_path)
    assert run.reader.meta["selection"]["step"] == 2 * run.reader.meta["steps_per_epoch"]


def with_score(evaluation: Evaluation, loss: float) -> Evaluation:
    return replace(evaluation, loss=loss, metrics=evaluation.metrics | {"accuracy": 0.5})


def test_a_training_ends_at_its_deadline_with_its_weights(scans, tmp_path):
    plan = make_plan(scans, {"model.name": "mlp", "budget.epochs": 50})
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "recipe.toml").write_text(plan.recipe.to_toml())
    run = fit.run_plan(plan, folder, Progress(), deadline=monotonic())
    reader = RunReader(run.path)
    assert reader.state == "finished"
    assert reader.meta["selection"] == {"step": 1, "by_score": False}
    (event,) = [event for event in reader.events if event.kind == TIME_UP]
    assert "1 of" in event.message
    assert thalweg.load(run.path).spec.model == "mlp"


def test_duplicates_across_splits_and_dropped_columns_colour_a_run(tmp_path):
    lines = ["a,remark,split,target"]
    for index in range(60):
        split, target = ("val", "train")[index % 3 > 0], ("cat", "dog")[index % 2]
        lines.append(f"{index % 2 + index / 1000},word{index} of {index * 7},{split},{target}")
    lines += [line.replace(",val,", ",train,") for line in lines[1:7]]
    path = tmp_path / "animals.csv"
    path.write_text("\n".join(lines))
    run = thalweg.train(path, epochs=2, out=tmp_path / "runs")
    titles = [caveat["title"] for caveat in run.reader.meta["caveats"]]
    assert {"Duplicates across the splits", "Columns were left out"} <= {*titles}
    assert "Nothing wrong found" not in (run.path / "report.html").read_text()
