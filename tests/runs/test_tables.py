"""A table of numbers, from training to prediction."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

import thalweg
from thalweg.api import plan, train
from thalweg.cli.predict import predict as predict_command
from thalweg.errors import DataError

HOUSES = Path(__file__).parents[3] / "shared/data/tabular/california_housing.csv.gz"


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """y is a sum of two columns; a third is noise, and some numbers are missing."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(300, 3))
    path = tmp_path_factory.mktemp("table") / "sums.csv"
    lines = [
        f"{a:.4f},{'' if i % 29 == 0 else f'{b:.4f}'},{3 * a + 2 * b:.4f},{c:.4f}"
        for i, (a, b, c) in enumerate(rows)
    ]
    path.write_text("first,second,sum,noise\n" + "\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="module")
def run(table, tmp_path_factory):
    return train(table, target="sum", epochs=40, out=tmp_path_factory.mktemp("runs"))


def test_the_named_column_is_learnt(run):
    assert run.reader.meta["task"] == "regression"
    assert run.metrics["val_r2"] > 0.9


def test_rows_are_predicted_by_the_names_of_their_columns(run, tmp_path):
    """Other order, further columns, no target: the same values as in the training's order."""
    (tmp_path / "new.csv").write_text("note,noise,second,first\nx,0,1,1\ny,0,-1,0.5\nz,0,,0\n")
    values = [prediction.value for prediction in thalweg.predict(run.path, [tmp_path / "new.csv"])]
    assert values[:2] == pytest.approx([5.0, -0.5], abs=0.6)
    (tmp_path / "bare.csv").write_text("1,1,0\n0.5,-1,0\n")  # no header: in the model's order
    bare = [prediction.value for prediction in thalweg.predict(run.path, [tmp_path / "bare.csv"])]
    assert bare == pytest.approx(values[:2])


def test_predictions_are_those_that_the_run_recorded(run, table):
    predictions = thalweg.predict(run.path, [table])
    with table.open() as file:
        assert len(predictions) == len(list(csv.reader(file))) - 1
    for row in run.reader.predictions:
        line = int(row.name.split()[-1])
        assert predictions[line - 2].value == pytest.approx(
            float(row.predicted), rel=1e-4, abs=1e-4
        )


def test_a_missing_column_is_named_with_the_nearest(run, tmp_path):
    (tmp_path / "new.csv").write_text("frist,second,noise\n1,1,0\n")
    with pytest.raises(DataError, match=r"(?s)no column 'first'.*rename 'frist' to 'first'"):
        thalweg.predict(run.path, [tmp_path / "new.csv"])
    (tmp_path / "bare.csv").write_text("1,1\n")
    with pytest.raises(DataError, match="2 columns, 3 features"):
        thalweg.predict(run.path, [tmp_path / "bare.csv"])
    with pytest.raises(DataError, match="there is no such file"):
        thalweg.predict(run.path, [tmp_path / "nothing.png"])
    (tmp_path / "picture.png").write_bytes(b"no table")
    with pytest.raises(DataError, match="no table"):
        thalweg.predict(run.path, [tmp_path / "picture.png"])


def test_the_command_prints_a_line_a_row(run, tmp_path, capsys):
    new = tmp_path / "new.csv"
    new.write_text("first,second,noise\n1,1,0\n2\n")
    assert predict_command(run.path, new) == DataError.exit_code
    out = capsys.readouterr().out
    assert f"{new}, row 2" in out
    assert "(not read)" in out
    predict_command(run.path, new, json=True)
    first, second = json.loads(capsys.readouterr().out)["predictions"]
    assert first["row"].endswith("row 2")
    assert second["error"] == "1 cells are too few"
    predict_command(run.path, new, csv=True)
    assert capsys.readouterr().out.startswith("row,prediction,probability,error\n")


@pytest.mark.skipif(not HOUSES.exists(), reason="the houses are not beside this checkout")
def test_houses_are_a_regression_where_their_value_is_named():
    with pytest.raises(DataError, match="does not name the column to predict"):
        plan(HOUSES)  # the last column tells whether a house is near the ocean
    named = plan(HOUSES, target="median_house_value")
    assert named.recipe.task.name == "regression"
    assert named.dataset.facts.num_numbers == 8
    assert named.dataset.facts.categories == (5,)  # the ocean's proximity
    assert named.dataset.facts.target_mean == pytest.approx(206_856, rel=0.01)
