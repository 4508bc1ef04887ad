"""Gradient-boosted trees stand beside the network of every table."""

import json
import sys

import numpy as np
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

import thalweg
from thalweg.data import load_dataset
from thalweg.report import render_json, render_text

pytestmark = pytest.mark.trees


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    """Classes that a tree sees at once: boxes in two of four numbers."""
    draw = np.random.default_rng(0)
    rows = draw.uniform(-1, 1, (300, 4))
    inside = (abs(rows[:, 0]) < 0.6) & (abs(rows[:, 1]) < 0.6)
    path = tmp_path_factory.mktemp("table") / "shapes.csv"
    cells = [
        ",".join(f"{x:.4f}" for x in row) + "," + ("in" if one else "out")
        for row, one in zip(rows, inside, strict=True)
    ]
    path.write_text("\n".join(["a,b,c,d,where", *cells]) + "\n")
    return path


def text_of(run):
    return " ".join(render_text(run.reader, run.diagnosis, width=100).split())


def test_they_are_those_of_scikit_learn_and_stand_in_every_report(shapes, tmp_path):
    run = thalweg.train(shapes, out=tmp_path, epochs=1)
    data = load_dataset(shapes)
    rows = {split: data.inputs[data.indices[split]] for split in ("train", "val")}
    targets = {split: data.targets[data.indices[split]] for split in ("train", "val")}
    model = HistGradientBoostingClassifier(random_state=0).fit(rows["train"], targets["train"])
    trees = run.reader.meta["trees"]
    assert trees["score"] == pytest.approx(model.score(rows["val"], targets["val"]))
    assert trees["rounds"] == 100
    assert trees["verdict"] == "better", "after one epoch"
    score = f"{100 * trees['score']:.1f} %"
    words = f"validation accuracy {score}, better than this network on the same rows (100 rounds"
    assert f"boosted trees {words}" in text_of(run)
    page = (run.path / "report.html").read_text().replace("\u202f", " ").replace("\u00a0", " ")
    assert f"Gradient-boosted trees: {words}" in page
    assert json.loads(render_json(run.reader, run.diagnosis))["meta"]["trees"] == trees


def test_a_regression_is_compared_by_r2(diabetes, tmp_path):
    run = thalweg.train(diabetes, out=tmp_path, epochs=3)
    data = load_dataset(diabetes)
    rows = {split: data.inputs[data.indices[split]] for split in ("train", "val")}
    targets = {split: data.targets[data.indices[split]] for split in ("train", "val")}
    model = HistGradientBoostingRegressor(random_state=0).fit(rows["train"], targets["train"])
    expected = model.score(rows["val"], targets["val"])
    assert run.reader.meta["trees"]["score"] == pytest.approx(expected, abs=1e-6)
    assert "boosted trees validation R² 0." in text_of(run)


def test_none_are_fitted_where_the_recipe_says_so(shapes, tmp_path):
    run = thalweg.train(shapes, out=tmp_path, epochs=1, edits={"evaluation.trees_seconds": 0})
    assert "trees" not in run.reader.meta
    assert "boosted" not in text_of(run)


def test_images_have_none(scans, tmp_path):
    assert "trees" not in thalweg.train(scans, out=tmp_path, epochs=1, model="mlp").reader.meta


def test_what_takes_too_long_is_said_with_what_allows_it(shapes, tmp_path):
    run = thalweg.train(shapes, out=tmp_path, epochs=1, edits={"evaluation.trees_seconds": 1e-6})
    reason = run.reader.meta["trees"]["reason"]
    assert reason.startswith("their fit needs about")
    assert "--evaluation.trees_seconds " in reason
    assert "boosted trees not compared: their fit" in text_of(run)


def test_a_missing_package_is_said(shapes, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    run = thalweg.train(shapes, out=tmp_path, epochs=1)
    assert "not compared: scikit-learn is not installed: pip install" in text_of(run)


def test_several_labels_are_not_compared(tmp_path):
    names = ["ant", "bee", "ant bee", "cat", "bee cat", "ant"]
    rows = [f"{row % 7},{row % 5},{names[row % 6]}" for row in range(60)]
    path = tmp_path / "labels.csv"
    path.write_text("\n".join(["a,b,labels", *rows]))
    run = thalweg.train(path, target="labels", task="multi-label", out=tmp_path, epochs=1)
    assert "boosted trees not compared: they predict one class" in text_of(run)


def test_the_networks_of_a_ladder_are_trained_alone(shapes, tmp_path):
    ladder = thalweg.ladder(shapes, rungs=("boosted-trees", "tabular"), epochs=1, out=tmp_path)
    assert ladder["boosted-trees"].score > 0.9
    assert "trees" not in thalweg.Run(ladder.path / "tabular").reader.meta


def test_data_in_memory_have_ladders_with_trees(tmp_path):
    draw = np.random.default_rng(0)
    inputs = draw.normal(size=(400, 2)).astype(np.float32)
    targets = inputs[:, 0] ** 2
    ladder = thalweg.ladder(inputs, targets, rungs=("chance", "boosted-trees"), out=tmp_path)
    assert ladder["boosted-trees"].score > 0.5 > ladder["chance"].score
    assert thalweg.ladder(ladder.source, rungs=("chance",), out=tmp_path)["chance"].score < 0.5
