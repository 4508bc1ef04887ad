"""Numbers as people write them are numbers, and what only looks like them is none."""

from math import isnan

import numpy as np
import pytest

from thalweg.data import load_dataset
from thalweg.data.tables.column import Column, restore_column
from thalweg.data.tables.written_numbers import number_form, written_number
from thalweg.errors import ThalwegWarning


@pytest.mark.parametrize(
    ("cells", "form", "numbers"),
    [
        (["$25,000", "$1,200", "$300"], "1,234.5 $", [25000, 1200, 300]),
        (["12,500.50", "900", "1,000"], "1,234.5", [12500.5, 900, 1000]),
        (["1,5", "2,25", "0,125"], "1234,5", [1.5, 2.25, 0.125]),
        (["0,123", "1,234", "2,345"], "1234,5", [0.123, 1.234, 2.345]),
        (["1.234,50", "2.000,00", "12,5"], "1.234,5", [1234.5, 2000, 12.5]),
        (["1 234", "12 500", "300"], "1 234,5", [1234, 12500, 300]),
        (["12%", "13.5 %", "-9%"], "1234.5 %", [12, 13.5, -9]),
        (["3 km", "4.5 km", "10km"], "1234.5 km", [3, 4.5, 10]),
        (["€ 12", "-€14", "€15,5"], "1234,5 €", [12, -14, 15.5]),
        (["12 EUR", "1.000,5 EUR", "7 EUR"], "1.234,5 EUR", [12, 1000.5, 7]),
    ],
)
def test_a_column_of_written_numbers(cells, form, numbers):
    assert number_form(cells) == form
    assert [written_number(cell, form) for cell in cells] == numbers
    assert written_number("7", form) == 7, "as they come in a frame"
    assert isnan(written_number("unknown", form))


@pytest.mark.parametrize(
    "cells",
    [
        ["1", "2.5", "1e5"],
        ["12B", "3a", "4c"],
        ["1st", "2nd", "3rd"],
        ["2024-01-01", "2024-02-01", "2023-05-07"],
        ["1.2.3", "1.2.4", "2.0.1"],
        ["12:30", "13:00", "14:15"],
        ["12 oz", "16 oz", "12 oz"],
        ["a", "b", "c", "1,5"],
        ["192.168.0.1", "10.0.0.1", "127.0.0.1"],
    ],
)
def test_what_is_none(cells):
    assert number_form(cells) == ""


def test_long_cells_take_no_time():
    """A pattern that tried all ways would not end."""
    for cell in ("+" + " " * 10**6 + "!", "1." * 10**6 + "!", "9" * 10**6 + "%"):
        assert number_form([cell, cell + "1", cell + "2"]) == ""
        assert isnan(written_number(cell, "1,234.5 $"))


def table(folder, name, head, rows, delimiter=","):
    path = folder / name
    lines = [delimiter.join(cells) for cells in [head, *rows]]
    path.write_text("\n".join(lines) + "\n")
    return path


def test_prices_are_values_whatever_the_country(tmp_path):
    areas = np.arange(60) / 4 + 1.125
    english = table(
        tmp_path,
        "en.csv",
        ["area", "price"],
        [[f"{x}", f'"${1000 * x:,.0f}"'] for x in areas],
    )
    german = table(
        tmp_path,
        "de.csv",
        ["area", "price"],
        [[f"{x}".replace(".", ","), f"{1000 * x:.1f}".replace(".", ",")] for x in areas],
        ";",
    )
    for path in (english, german):
        dataset = load_dataset(path)
        assert dataset.facts.task == "regression"
        assert np.allclose(dataset.targets, 1000 * areas, atol=0.6)
        assert np.allclose(dataset.inputs[:, 0], areas)
        assert any("the numbers of 'price' are read like" in note for note in dataset.notes)


def test_a_saved_column_reads_its_form_again():
    column = Column(name="price", form="1,234.5 $")
    restored = restore_column(column.to_dict())
    assert restored.numbers(["$1,250", "3", "none"]).ravel().tolist()[:2] == [1250, 3]
    assert [restored.is_readable(cell) for cell in ("$1,250", "", "none")] == [True, True, False]
    with pytest.raises(ValueError, match="no form of numbers"):
        restore_column({"name": "price", "form": "anything"})


def test_a_file_to_predict_is_read_as_the_training_table_was(tmp_path):
    rows = [[f"{x / 4} km", f"{x}"] for x in range(60)]
    dataset = load_dataset(table(tmp_path, "t.csv", ["distance", "price"], rows))
    restored = dataset.modality.restore(dataset.preprocessing.to_dict())
    new = table(tmp_path, "new.csv", ["distance"], [["12.5 km"], ["3"], ["far"]])
    with pytest.warns(ThalwegWarning, match="1 cell of 'distance' taken as missing: 'far'"):
        (first, second, third) = [row.raw for row in dataset.modality.read_source(restored, new)]
    assert (float(first[0]), float(second[0])) == (12.5, 3.0)
    assert isnan(float(third[0]))


@pytest.mark.parametrize("odd", ["[EUR]", "n.d.", "see below"])
def test_a_few_words_among_measured_targets_are_left_out(odd, tmp_path):
    rows = [[f"{x}", f"{x * x:.2f}"] for x in range(60)]
    rows[0][1] = odd
    dataset = load_dataset(table(tmp_path, "t.csv", ["x", "y"], rows))
    assert dataset.facts.task == "regression"
    ((name, reason),) = [(each.name, each.reason) for each in dataset.quarantined]
    assert name == "row 2"
    assert reason == f"the target {odd!r} is no number"


def test_a_word_among_numbered_classes_is_a_class(tmp_path):
    rows = [[f"{x}", "none" if x == 0 else f"{x % 4}"] for x in range(60)]
    dataset = load_dataset(table(tmp_path, "t.csv", ["x", "label"], rows))
    assert "none" in dataset.class_names
    assert not dataset.quarantined


@pytest.mark.parametrize("code", ["-999", "9999", "-99.0"])
def test_a_code_for_missing_values_is_told(code, tmp_path):
    rows = [[code if x % 9 == 0 else f"{x / 30}", f"{x * x}"] for x in range(60)]
    notes = load_dataset(table(tmp_path, "t.csv", ["x", "y"], rows)).notes
    (note,) = [note for note in notes if "means a missing value" in note]
    assert note.startswith(f"7 cells of 'x' are {float(code):.0f}, all others 0.03333 to 1.967")


@pytest.mark.parametrize("scale", [20, 1000])
def test_a_number_among_others_like_it_is_no_code(scale, tmp_path):
    rows = [["-999" if x % 9 == 0 else f"{x * scale - 999}", f"{x * x}"] for x in range(60)]
    notes = load_dataset(table(tmp_path, "t.csv", ["x", "y"], rows)).notes
    assert not any("means a missing value" in note for note in notes)


def test_columns_without_a_value_are_left_out(tmp_path):
    rows = [[f"{x}", "", "lo" if x < 30 else "hi", ""] for x in range(60)]
    dataset = load_dataset(table(tmp_path, "t.csv", ["x", "empty", "y", ""], rows))
    assert [column.name for column in dataset.preprocessing.columns or [Column(name="x")]] == ["x"]
    assert dataset.inputs.shape[1] == 1
    assert "columns without a value are left out: 'empty', ''" in dataset.notes
