"""The ladder end to end: scores agree with other code, settings are chosen inside training."""

import json
import os
import signal
import threading
from dataclasses import replace
from time import sleep

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import Ridge
from sklearn.metrics import r2_score
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor

import thalweg
from thalweg.api import InterruptedLadderError, Progress, ladder_steps
from thalweg.data import load_dataset
from thalweg.errors import DataError, TooLongError, UnknownNameError, UsageError
from thalweg.ladders.ladder import _time_share, select_rungs
from thalweg.ladders.ladder_data import LadderData
from thalweg.ladders.rungs import RUNGS, networks, ridge
from thalweg.ladders.score_interval import score_interval
from thalweg.record import RunReader
from thalweg.record.ladder import read_ladder
from thalweg.runs.recorder import TIME_UP

SHALLOW = ("chance", "knn", "ridge", "softmax", "svm", "hog-softmax")


@pytest.fixture(scope="session")
def cells(tmp_path_factory):
    """569 real tumours, thirty features, two classes."""
    table = load_breast_cancer()
    path = tmp_path_factory.mktemp("data") / "cells.csv"
    head = ",".join([*(name.replace(" ", "_") for name in table.feature_names), "target"])
    words = np.array(["malignant", "benign"])[table.target]
    rows = [",".join([*map(str, row), word]) for row, word in zip(table.data, words, strict=True)]
    path.write_text("\n".join([head, *rows]))
    return path


def vectors_of(path):
    """The samples as scikit-learn takes them, standardised by the training split."""
    data = load_dataset(path)
    train, val = (data.inputs[data.indices[split]] for split in ("train", "val"))
    mean, std = train.mean(0), train.std(0)
    targets = [data.targets[data.indices[split]] for split in ("train", "val")]
    return (train - mean) / std, (val - mean) / std, *targets


def test_shallow_rungs_score_what_scikit_learn_scores(cells, tmp_path):
    found = thalweg.ladder(cells, rungs=("chance", "knn", "ridge"), k=5, penalty=0.1, out=tmp_path)
    train, val, answers, truth = vectors_of(cells)
    assert found["chance"].score == pytest.approx(np.mean(truth == np.bincount(answers).argmax()))
    near = KNeighborsClassifier(5).fit(train, answers).score(val, truth)
    assert found["knn"].score == pytest.approx(near)
    one_hot = np.eye(2)[answers]
    fit = Ridge(alpha=0.1 * len(train)).fit(train, one_hot)
    assert found["ridge"].score == pytest.approx(np.mean(fit.predict(val).argmax(1) == truth))
    train_score = np.mean(fit.predict(train).argmax(1) == answers)
    assert found["ridge"].train_score == pytest.approx(train_score)


def test_values_are_scored_by_r2(diabetes, tmp_path):
    found = thalweg.ladder(
        diabetes, rungs=("chance", "knn", "ridge"), k=9, penalty=0.01, out=tmp_path
    )
    train, val, answers, truth = vectors_of(diabetes)
    near = KNeighborsRegressor(9).fit(train, answers).predict(val)
    assert found["knn"].score == pytest.approx(r2_score(truth, near), abs=1e-4)
    line = Ridge(alpha=0.01 * len(train)).fit(train, answers).predict(val)
    assert found["ridge"].score == pytest.approx(r2_score(truth, line), abs=1e-4)
    assert found.metric == "r2"
    assert {"softmax", "svm", "hog-softmax"}.isdisjoint(rung.name for rung in found.rungs)


def test_validation_targets_cannot_move_a_setting(cells, tmp_path):
    """k and λ come from the training split: other validation targets leave them as they are."""
    data = load_dataset(cells)
    arrays = {}
    for split in ("train", "val"):
        rows = data.indices[split]
        arrays |= {f"x_{split}": data.inputs[rows], f"y_{split}": data.targets[rows]}
    chosen = []
    for name, targets in (("true", arrays["y_val"]), ("false", 1 - arrays["y_val"])):
        np.savez(tmp_path / f"{name}.npz", **(arrays | {"y_val": targets}))
        found = thalweg.ladder(tmp_path / f"{name}.npz", rungs=SHALLOW[1:5], out=tmp_path)
        chosen.append([(rung.chosen, rung.parameters, rung.train_score) for rung in found.rungs])
        scores = [rung.score for rung in found.rungs]
    assert repr(chosen[0]) == repr(chosen[1])
    assert max(scores) < 0.2  # the same answers, judged by the opposite


def test_digits_reach_a_network(scans, tmp_path):
    found = thalweg.ladder(scans, rungs=(*SHALLOW, "mlp"), epochs=6, out=tmp_path)
    assert [rung.name for rung in found.rungs] == [*SHALLOW, "mlp"]
    scores = {rung.name: rung.score for rung in found.rungs}
    assert scores["chance"] < 0.3 < 0.8 < min(scores[name] for name in SHALLOW[1:])
    run = RunReader(found.path / found["mlp"].run)
    assert run.meta["metrics"]["val_accuracy"] == pytest.approx(scores["mlp"])
    assert all(rung.low <= rung.score <= rung.high for rung in found.rungs)
    assert found.advice
    assert found[found.stop_at].seconds <= found[found.best].seconds
    kept = read_ladder(found.path)
    assert kept.to_dict() == found.to_dict()
    assert json.loads((found.path / "ladder.json").read_text())["state"] == "finished"
    assert "<svg" in (found.path / "ladder.html").read_text()
    assert (found.path / "ladder.svg").read_text().startswith("<svg")


def test_features_feed_a_network_whose_run_stands_alone(scans, tmp_path):
    found = thalweg.ladder(scans, rungs=("hog-mlp",), epochs=8, out=tmp_path)
    rung = found["hog-mlp"]
    assert rung.score > 0.8
    assert rung.train_loss < 1.5
    assert np.load(found.path / "features.npz")["x_train"].shape == (320, 144)
    assert thalweg.Run(found.path / "hog-mlp").diagnosis is not None


def test_test_split_is_not_used(scans, tmp_path):
    held = np.load(scans)
    parts = {"train": slice(0, 250), "val": slice(250, 320), "test": slice(320, 400)}
    arrays = {f"x_{name}": held["images"][rows] for name, rows in parts.items()}
    arrays |= {f"y_{name}": held["labels"][rows] for name, rows in parts.items()}
    np.savez(tmp_path / "split.npz", **arrays)
    found = thalweg.ladder(tmp_path / "split.npz", rungs=SHALLOW, out=tmp_path)
    assert all(rung.samples == 70 for rung in found.rungs)
    assert "test" not in found.counts
    assert "x_test" not in "".join(path.name for path in found.path.iterdir())


def test_rungs_that_do_not_fit_into_the_time_say_what_they_need(scans, tmp_path):
    found = thalweg.ladder(
        scans, rungs=("ridge", "visual-words", "mlp"), minutes=1e-9, out=tmp_path
    )
    assert not found.rungs
    assert set(found.left_out) == {"ridge", "visual-words", "mlp"}
    assert all(found.left_out[name].startswith("needs about") for name in ("visual-words", "mlp"))


def test_ctrl_c_keeps_the_rungs_that_are_done(scans, tmp_path):
    progress = Progress()

    def press():
        while progress.run is None or progress.step < 3:
            sleep(0.0005)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=press, daemon=True).start()
    with pytest.raises(InterruptedLadderError) as stopped:
        for _ in ladder_steps(
            scans, rungs=("ridge", "mlp"), epochs=50, out=tmp_path, progress=progress
        ):
            pass
    kept = read_ladder(stopped.value.path)
    assert (kept.state, stopped.value.exit_code) == ("interrupted", 130)
    assert [rung.name for rung in kept.rungs] == ["ridge"]
    assert (kept.path / "ladder.svg").exists()
    assert RunReader(kept.path / "mlp").state == "interrupted"  # and can be resumed


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        pytest.param({"rungs": ["ridgee"]}, UnknownNameError, "did you mean ridge", id="unknown"),
        pytest.param({"rungs": ["resnet"]}, UsageError, "needs images", id="does not fit"),
        pytest.param({"k": 0}, UsageError, "k must lie", id="k 0"),
        pytest.param({"k": 100_000}, UsageError, "number of training samples", id="k > n"),
        pytest.param({"penalty": -1.0}, UsageError, "penalty", id="negative λ"),
        pytest.param({"penalty": float("nan")}, UsageError, "penalty", id="λ not a number"),
        pytest.param({"minutes": 0}, UsageError, "minutes", id="no time"),
        pytest.param({"epochs": 0}, UsageError, "budget.epochs", id="no epochs"),
        pytest.param({"device": "abacus"}, UsageError, "abacus", id="device"),
        pytest.param({"target": "prize"}, UsageError, "prize", id="target"),
        pytest.param({"widht": 3}, TypeError, "widht", id="option"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_the_ladder(cells, tmp_path, options, error, text):
    with pytest.raises(error, match=text):
        thalweg.ladder(cells, out=tmp_path / "runs", **options)
    assert not (tmp_path / "runs").exists()


def test_data_that_are_not_there_are_named(tmp_path):
    with pytest.raises(DataError, match="nowhere"):
        thalweg.ladder(tmp_path / "nowhere", out=tmp_path)


def test_few_samples_end_in_no_traceback(tmp_path):
    path = tmp_path / "tiny.csv"
    path.write_text("a,target\n1,x\n2,y\n3,x\n4,y\n5,x\n")
    found = thalweg.ladder(path, rungs=SHALLOW[:5], out=tmp_path)
    assert "chance" in {rung.name for rung in found.rungs}
    assert "No rung is significantly better" in found.advice


class TestIntervals:
    def test_of_an_accuracy_is_wilsons(self):
        errors = torch.tensor([0.0] * 90 + [1.0] * 10, dtype=torch.float64)
        targets = torch.zeros(100, dtype=torch.int64)
        found = score_interval(errors, targets, is_classification=True)
        truth = stats.binomtest(90, 100).proportion_ci(method="wilson")
        assert found == pytest.approx((truth.low, truth.high), abs=1e-4)

    def test_of_r2_covers_as_often_as_it_says(self):
        """R² of a known linear law, on 200 fresh samples each time: 95 % ± what 120 draws allow."""
        draw = torch.Generator().manual_seed(1)
        covered = 0
        for _ in range(120):
            signal_part = torch.randn(200, generator=draw, dtype=torch.float64)
            noise = torch.randn(200, generator=draw, dtype=torch.float64)
            low, high = score_interval(noise.square(), signal_part + noise, is_classification=False)
            covered += low <= 0.5 <= high
        assert covered >= 105


def test_every_rung_has_a_name_and_a_title_of_its_own():
    assert list(RUNGS) == [maker.name for maker in RUNGS.values()]
    assert len({maker.title for maker in RUNGS.values()}) == len(RUNGS)


def test_transfer_is_for_photographs_and_says_what_it_misses(scans):
    facts = load_dataset(scans).facts
    assert RUNGS["transfer"].unfit_reason(facts) == "needs photographs of 64 px"
    photographs = replace(facts, input_shape=(3, 128, 128))
    assert RUNGS["transfer"].unfit_reason(photographs) == ""
    assert RUNGS["transfer"].unfit_reason(replace(facts, task="regression")) == "needs classes"


def test_pretrained_networks_come_before_what_could_use_up_the_time(scans, monkeypatch):
    dataset = load_dataset(scans)
    monkeypatch.setitem(
        RUNGS, "transfer", replace(RUNGS["transfer"], unfit_reason=lambda facts: "")
    )
    makers, _ = select_rungs(dataset, ())
    assert [maker.name for maker in makers[:3]] == ["chance", "transfer", "knn"]


def too_long(data):
    raise TooLongError(90)


def test_an_untried_strong_rung_forbids_to_stop(cells, tmp_path, monkeypatch):
    monkeypatch.setitem(RUNGS, "mlp", replace(RUNGS["mlp"], run=too_long))
    found = thalweg.ladder(cells, rungs=("chance", "ridge", "mlp"), out=tmp_path)
    assert (found.untried, found.stop_at, found.best) == (("MLP",), "", "ridge")
    assert read_ladder(found.path) == replace(
        found, rungs=tuple(replace(rung, errors=()) for rung in found.rungs)
    )
    assert "Best so far: ridge" in (found.path / "ladder.html").read_text()
    monkeypatch.setitem(RUNGS, "ridge", replace(RUNGS["ridge"], run=too_long))
    found = thalweg.ladder(cells, rungs=("chance", "ridge"), out=tmp_path)
    assert (found.untried, found.stop_at) == ((), "chance")  # a weak one forbids nothing


def test_a_network_ends_at_its_time(scans, tmp_path, monkeypatch):
    """Its steps take longer than those that were timed: the clock decides, not the estimate."""
    monkeypatch.setattr(networks, "_measure_step_seconds", lambda plan, *, steps: 0.0001)
    monkeypatch.setattr(LadderData, "limit_time", limit_to_nothing)
    found = thalweg.ladder(scans, rungs=("mlp",), out=tmp_path)
    run = RunReader(found.path / "mlp")
    assert run.state == "finished"
    assert [event.kind for event in run.events].count(TIME_UP) == 1
    assert run.summary().steps == 1
    assert found["mlp"].chosen.endswith("cut short by the time")


def limit_to_nothing(data, share):
    data.time_limit, data.rung_deadline = 60.0, -float("inf")


def test_a_fit_ends_at_its_time(cells, tmp_path, monkeypatch):
    monkeypatch.setattr(LadderData, "limit_time", limit_to_nothing)
    found = thalweg.ladder(cells, rungs=("chance", "knn", "softmax"), out=tmp_path)
    assert found.left_out["softmax"] == "takes more than 60 s"
    assert found.left_out["knn"] == "takes more than 60 s"


@pytest.mark.parametrize("rung", ["ridge", "knn", "softmax", "svm", "hog-softmax"])
@pytest.mark.parametrize("options", [{}, {"k": 3, "penalty": 0.1}])
def test_no_rung_is_begun_without_time(rung, options, scans, tmp_path, monkeypatch):
    monkeypatch.setattr(LadderData, "limit_time", limit_to_nothing)
    ladder = thalweg.ladder(scans, rungs=("chance", rung), out=tmp_path, **options)
    assert ladder.left_out[rung].startswith(("takes more than 60 s", "needs about"))


@pytest.mark.parametrize("rung", ["ridge", "knn"])
def test_no_rung_of_values_is_begun_without_time(rung, diabetes, tmp_path, monkeypatch):
    monkeypatch.setattr(LadderData, "limit_time", limit_to_nothing)
    ladder = thalweg.ladder(diabetes, rungs=("chance", rung), out=tmp_path)
    assert ladder.left_out[rung].startswith(("takes more than 60 s", "needs about"))


def after(checks):
    """A clock that is past the rung's time at its so-manieth look."""
    looks = iter(range(10**6))

    def check_time(data):
        if next(looks) >= checks:
            raise TooLongError(60, is_bound=True)

    return check_time


@pytest.mark.parametrize(
    ("rung", "looks"),
    # Before the first: the pixels, 512 at a time. Then parts of sums, folds, words' iterations.
    [("ridge", 2), ("knn", 2), ("knn", 6), ("visual-words", 3), ("hog-softmax", 2)],
)
def test_a_fit_in_closed_form_is_interrupted(rung, looks, scans, tmp_path, monkeypatch):
    monkeypatch.setattr(LadderData, "check_time", after(looks))
    ladder = thalweg.ladder(scans, rungs=("chance", rung), out=tmp_path)
    assert ladder.left_out[rung] == "takes more than 60 s"


@pytest.mark.parametrize(("width", "penalty"), [(40, None), (2000, None), (2000, 0.1)])
def test_a_solution_that_does_not_fit_is_not_begun(width, penalty, tmp_path, monkeypatch):
    """Of more features than samples, too; a part that cannot be interrupted is estimated."""
    draw = np.random.default_rng(0)
    monkeypatch.setattr(ridge, "_operations_per_second", lambda device: 1.0)
    monkeypatch.setattr(ridge, "least_squares", None)
    monkeypatch.setattr(ridge, "choose_by_gcv", None)
    rungs = ("chance", "ridge")
    inputs = draw.normal(size=(100, width)).astype(np.float32)
    ladder = thalweg.ladder(inputs, inputs[:, 0], rungs=rungs, penalty=penalty, out=tmp_path)
    assert ladder.left_out["ridge"].startswith("needs about")


def test_trees_that_take_too_long_are_left_out_after_a_few_rounds(cells, tmp_path):
    found = thalweg.ladder(cells, rungs=("chance", "boosted-trees"), minutes=1e-9, out=tmp_path)
    assert found.left_out["boosted-trees"].startswith("needs about")
    assert found.untried == ("gradient-boosted trees",)


def test_weak_rungs_leave_the_time_to_strong_ones():
    networks_left, none_left = [RUNGS["mlp"], RUNGS["convnet"]], [RUNGS["svm"]]
    assert _time_share(RUNGS["softmax"], networks_left) == 0.2
    assert _time_share(RUNGS["softmax"], none_left) == 0.5
    assert _time_share(RUNGS["mlp"], networks_left) == 0.5
    assert _time_share(RUNGS["transfer"], networks_left) == 0.9
    assert _time_share(RUNGS["softmax"], []) == 1.0
