"""Columns of tables as people have them: categories, flags, dates, holes, leaks."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from thalweg.data import load_dataset
from thalweg.data.modalities.vector import read_source, restore
from thalweg.data.tables.column import Column, restore_column
from thalweg.data.tables.dates import date_form, date_numbers
from thalweg.data.tables.determining_columns import recoding_chance
from thalweg.data.tables.infer_column import infer_column
from thalweg.errors import DataError, ThalwegWarning

CITIES = ("Rome", "Oslo", "Bern")


def write(path: Path, header: str, rows: list[str]) -> Path:
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def mixed_table(folder: Path, count: int = 60) -> Path:
    rows = [
        f"{CITIES[row % 3] if row % 10 else ''},{('yes', 'no')[row % 2]},"
        f"2020-{1 + row % 12:02}-{1 + row % 28:02},{row if row % 6 else ''},"
        f"a remark {row},{row / 7}"
        for row in range(count)
    ]
    return write(folder / "t.csv", "city,member,day,size,remark,price", rows)


def inputs_of(dataset) -> np.ndarray:
    return dataset.preprocessing.to_inputs(torch.from_numpy(dataset.inputs)).numpy()


@pytest.mark.parametrize(
    ("cells", "kind"),
    [
        (["1", "2.5", ""], "number"),
        (["1", "2", "many"], "number"),
        (["True", "False", ""], "flag"),
        (["yes", "NO"], "flag"),
        (["red", "blue", "red"], "category"),
        (["2020-01-02", "2021-03-04T05:06:07"], "date"),
        (["01/02/2020", "13/02/2020"], "date"),
        (["Jan 5, 2020", "Feb 6, 2020"], "date"),
        (["10:30", "23:59"], "date"),
        (["v1", "v2", "v1"], "category"),
        (["20200101", "20200102"], "number"),
        ([f"text {row}" for row in range(30)], None),
    ],
)
def test_a_column_is_told_by_its_cells(cells, kind):
    column = infer_column("c", cells)
    assert (column and column.kind) == kind


def test_a_day_that_is_no_month_decides_the_order_of_day_and_month():
    assert date_form(["01/02/2020", "13/02/2020"]) == "%d/%m/%Y"
    assert date_form(["01/02/2020", "02/13/2020"]) == "%m/%d/%Y"


def test_dates_become_days_since_the_earliest_and_parts():
    column = infer_column("when", ["2020-01-01 06:00", "2020-03-11 18:30", "2020-03-12"])
    assert column is not None
    numbers = dict(zip(column.features, column.numbers(["2020-03-11 18:30"])[0], strict=True))
    assert numbers["when: days"] == pytest.approx(70 + 18.5 / 24)
    assert numbers["when: month"] == 3
    assert numbers["when: weekday"] == 2  # a Wednesday
    assert numbers["when: hour"] == 18.5
    assert "when: year" not in numbers  # it does not vary
    assert np.isnan(date_numbers(["soon"], form=column.form, parts=("month",), origin=0)).all()


def test_each_kind_of_column_is_an_input_and_is_said(tmp_path):
    dataset = load_dataset(mixed_table(tmp_path))
    text = "\n".join(dataset.notes)
    for line in (
        "columns of categories: 'city'",
        "columns of yes or no: 'member'",
        "columns of dates: 'day'",
        "free text are left out: 'remark'",
        "an input says where a value is missing: 'size'",
    ):
        assert line in text
    facts, inputs = dataset.facts, inputs_of(dataset)
    assert facts.input_shape == (inputs.shape[1],)
    assert facts.categories == (4,)  # three cities, and none
    assert (inputs[:, -4:].sum(axis=1) == 1).all()
    missing = inputs[:, facts.num_numbers]  # the first after the numbers
    assert missing.tolist() == [float(row % 6 == 0) for row in range(60)]
    assert np.isfinite(inputs).all()


def test_prediction_reads_words_dates_and_unseen_values_as_training_did(tmp_path):
    path = mixed_table(tmp_path)
    dataset = load_dataset(path)
    saved = json.loads(json.dumps(dataset.preprocessing.to_dict()))
    preprocessing = restore(saved)
    assert preprocessing == dataset.preprocessing
    rows = np.stack([row.raw for row in read_source(preprocessing, path)])
    np.testing.assert_array_equal(rows, dataset.inputs)
    strange = write(tmp_path / "p.csv", "price,city,day,member,size", ["1,Paris,soon,maybe,"])
    with pytest.warns(ThalwegWarning, match="no known category: 'Paris'"):
        (row,) = read_source(preprocessing, strange)
    inputs = preprocessing.to_inputs(torch.from_numpy(row.raw)[None])[0]
    assert inputs.isfinite().all()
    assert inputs[-4:].tolist() == [0, 0, 0, 0]
    assert inputs[: dataset.facts.num_numbers].tolist() == [0] * dataset.facts.num_numbers


def test_a_model_of_numbers_alone_is_saved_as_before(tmp_path):
    """So the fingerprints of recorded runs, and older models, stay as they are."""
    rows = [f"{row},{row % 7},{row / 3}" for row in range(40)]
    dataset = load_dataset(write(tmp_path / "t.csv", "a,b,y", rows))
    assert dataset.preprocessing.to_dict().keys() == {
        *("kind", "image_size", "channels", "mean", "std", "policy_version", "features")
    }


def test_categories_are_fitted_to_training_rows(tmp_path):
    rows = [f"{'ab'[row % 2]},{row / 3},train" for row in range(40)]
    rows += [f"{'abc'[row % 3]},{row / 3},val" for row in range(12)]
    dataset = load_dataset(write(tmp_path / "t.csv", "kind,y,split", rows), target="y")
    assert dataset.preprocessing.columns[0].texts == ("a", "b")
    only_in_val = inputs_of(dataset)[42]
    assert only_in_val.tolist() == [0, 0]


@pytest.mark.parametrize("values", [{"kind": "recipe"}, {"texts": [1]}, {"form": "x"}, {"odd": 1}])
def test_a_column_of_a_foreign_model_is_refused(values):
    with pytest.raises((ValueError, TypeError)):
        restore_column({"name": "c", "kind": "date", "parts": ["days"], "form": "%Y-%m", **values})


@pytest.mark.parametrize(
    "part", [{"columns": "ab"}, {"columns": [3]}, {"indicators": [9]}, {"columns": [{"name": "a"}]}]
)
def test_a_foreign_model_whose_columns_do_not_fit_is_refused(part):
    with pytest.raises((ValueError, TypeError)):
        restore({"mean": [0.0, 0.0], "std": [1.0, 1.0], **part})


@pytest.mark.parametrize("column", [Column(name="a"), infer_column("d", ["2020-01-01"])])
def test_a_column_is_restored_from_what_it_saves(column):
    assert restore_column(json.loads(json.dumps(column.to_dict()))) == column


@pytest.mark.parametrize(
    ("task", "leak"),
    [(t, leak) for t in ("classes", "values") for leak in ("copy", "scaled")]
    + [("classes", "code")],
)
def test_a_column_that_determines_the_target_is_said(tmp_path, leak, task):
    chance = np.random.default_rng(0)
    x = chance.normal(size=400)
    y = (x + chance.normal(size=400)).round(4)
    if task == "classes":
        y = (y > 0.5).astype(int)
    leaks: dict[str, list] = {
        "copy": y.tolist(),
        "scaled": (-3 * y + 1).tolist(),
        "code": [f"k{value}" for value in y],
    }
    rows = [f"{a},{b},{c}" for a, b, c in zip(x, leaks[leak], y, strict=True)]
    notes = load_dataset(write(tmp_path / "t.csv", "x,after,target", rows)).notes
    assert [note for note in notes if "alone determines" in note] == [
        note for note in notes if "'after' alone determines the target" in note
    ]
    assert any("'after' alone" in note for note in notes)


@pytest.mark.parametrize(
    ("values", "is_chance"),
    [
        ([0, 1] * 4, True),  # of 70 orders of the targets, 2 match
        ([0, 1] * 20, False),
        ([7.5, -1] * 20, False),
        ([0, 1] * 19 + [1, 1], True),  # not one to one
        (list(range(40)), True),
    ],
)
def test_a_recoding_is_no_chance_from_a_number_of_rows_on(values, is_chance):
    targets = np.arange(len(values)) % 2
    chance = recoding_chance(np.array(values, dtype=float), targets)
    assert (chance > 1e-6) == is_chance
    if len(values) == 8:
        assert np.isclose(chance, 2 / 70)


def test_a_copy_of_the_target_is_said_of_few_rows(tmp_path):
    x = np.random.default_rng(0).normal(size=120).round(3)
    rows = [f"{value},{'north' if i % 2 else 'south'},{i % 2}" for i, value in enumerate(x)]
    notes = load_dataset(write(tmp_path / "t.csv", "x,after,target", rows)).notes
    (note,) = [note for note in notes if "one value for each class" in note]
    assert "'after'" in note


def test_good_columns_are_not_called_leaks(tmp_path):
    chance = np.random.default_rng(0)
    kind = chance.integers(0, 3, 400)
    noise = chance.normal(size=400)
    pairs = zip(kind, noise, strict=True)
    rows = [f"{k + n},{'r' if n > 2 else 's'},{k}" for k, n in pairs]
    notes = load_dataset(write(tmp_path / "t.csv", "x,rare,target", rows)).notes
    assert not any("alone determines" in note for note in notes)


def test_columns_without_two_values_in_training_are_one_error(tmp_path):
    rows = "".join(f"a{number},b{number},{'pn'[number % 2]}\n" for number in range(6))
    (tmp_path / "t.csv").write_text("a,b,y\n" + rows)
    with pytest.raises(DataError, match="no column has two values"):
        load_dataset(tmp_path / "t.csv")


def test_numbers_with_more_digits_than_float32_holds_stay_apart(tmp_path):
    rows = [f"{4_006_381_000_000 + 137 * n},{5812345678.1 + 7 * n},{n % 5}.5" for n in range(60)]
    dataset = load_dataset(write(tmp_path / "t.csv", "barcode,north,sold", rows))
    assert len(np.unique(dataset.inputs[:, 0])) == len(np.unique(dataset.inputs[:, 1])) == 60
    assert not any("copies" in str(note) for note in dataset.notes)
    preprocessing = restore(dataset.preprocessing.to_dict())
    (row,) = read_source(preprocessing, write(tmp_path / "p.csv", "barcode,north", [rows[7]]))
    assert np.array_equal(row.raw, dataset.inputs[7])


@pytest.mark.parametrize(
    ("first", "count"),
    [
        ("5.1,3.5,setosa", 41),  # a row of the table
        ("length,width,species", 40),
        ("1960,1961,country", 40),  # years may be names
    ],
)
def test_a_table_of_numbers_and_classes_may_lack_a_header(first, count, tmp_path):
    rows = [f"{n / 7},{n % 9},{('setosa', 'virginica')[n % 2]}" for n in range(40)]
    assert len(load_dataset(write(tmp_path / "iris.csv", first, rows)).targets) == count
