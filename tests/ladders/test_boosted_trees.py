"""Gradient-boosted trees beside the networks of a table."""

import sys

import numpy as np
import pytest
from sklearn.ensemble import HistGradientBoostingRegressor

import thalweg
from thalweg.data import load_dataset


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    chance = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("table") / "t.csv"
    sizes = chance.normal(size=160)
    rows = [f"{size:.4f},{'ab'[i % 2]},{size**2 + i % 2:.4f}" for i, size in enumerate(sizes)]
    path.write_text("size,kind,price\n" + "\n".join(rows) + "\n")
    return path


def test_trees_are_those_of_scikit_learn(table, tmp_path):
    ladder = thalweg.ladder(table, rungs=("boosted-trees",), out=tmp_path)
    data = load_dataset(table)
    rows = {split: data.inputs[data.indices[split]] for split in ("train", "val")}
    targets = {split: data.targets[data.indices[split]] for split in ("train", "val")}
    model = HistGradientBoostingRegressor(random_state=0, categorical_features=[1])
    score = model.fit(rows["train"], targets["train"]).score(rows["val"], targets["val"])
    assert ladder["boosted-trees"].score == pytest.approx(score, abs=1e-6)


def test_trees_are_left_out_where_scikit_learn_is_not_installed(table, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    ladder = thalweg.ladder(table, rungs=("chance", "boosted-trees"), out=tmp_path)
    assert [rung.name for rung in ladder.rungs] == ["chance"]
    assert "scikit-learn is not installed" in ladder.left_out["boosted-trees"]
