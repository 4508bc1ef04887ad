"""Rows of a file to predict: each gets its answer, or the reason why it has none."""

import numpy as np
import pytest

from thalweg.data.table_rows import table_rows
from thalweg.data.tables.column import Column
from thalweg.errors import ThalwegWarning

COLUMNS = (Column(name="a"), Column(name="b"))


def rows(folder, text):
    path = folder / "t.csv"
    path.write_text(text)
    return table_rows(path, columns=COLUMNS)


def test_a_row_of_empty_cells_between_others_is_a_row(tmp_path):
    table = rows(tmp_path, "a,b\n1,2\n,\n3,4\n,\n,\n")
    assert table.names == ["row 2", "row 3", "row 4"]  # those below the table are none
    assert np.isnan(table.vectors[1]).all()
    assert table.reasons == {}


def test_an_empty_line_is_no_row(tmp_path):
    assert rows(tmp_path, "a title\n\na,b\n1,2\n\n3,4\n").names == ["row 4", "row 6"]


def test_more_cells_than_columns_are_a_reason(tmp_path):
    table = rows(tmp_path, "a,b\n1,2\n3,100,7\n5,6,\n")
    assert table.reasons == {1: "3 cells in 2 columns"}


@pytest.mark.parametrize("cell", ["-1e39", "1e308"])
def test_a_number_that_cannot_be_held_is_said_to_be_missing(cell, tmp_path):
    with pytest.warns(ThalwegWarning, match=f"1 cell of 'a' taken as missing: '{cell}'"):
        table = rows(tmp_path, f"a,b\n1,2\n{cell},3\n")
    assert np.isnan(table.vectors[1, 0])


def test_records_without_a_value_between_others_are_rows(tmp_path):
    path = tmp_path / "t.jsonl"
    path.write_text('{"a": 1, "b": 2}\n{"a": "", "b": ""}\n{"a": 3, "b": 4}\n{"a": "", "b": ""}\n')
    assert len(table_rows(path, columns=COLUMNS).names) == 3
