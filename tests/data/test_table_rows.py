"""Rows to predict that are not as those of training: said, and what to do."""

from pathlib import Path

import pytest

from thalweg.data.table_rows import table_rows
from thalweg.data.tables.column import Column
from thalweg.errors import DataError, ThalwegWarning

COLUMNS = (
    Column(name="size"),
    Column(name="place", kind="category", texts=("north", "south")),
)


def rows_of(folder: Path, text: str):
    (folder / "p.csv").write_text(text)
    return table_rows(folder / "p.csv", columns=COLUMNS)


@pytest.mark.parametrize(
    ("header", "fix"),
    [("size", "add a column 'place'"), ("size,Place", "rename 'Place' to 'place'")],
)
def test_a_missing_column_can_be_added_or_renamed(tmp_path, header, fix):
    with pytest.raises(DataError, match="lacks 1 of the model's 2") as caught:
        rows_of(tmp_path, f"{header}\n1,north\n")
    assert fix in caught.value.fix


def test_cells_that_training_has_not_met_are_said(tmp_path):
    with pytest.warns(ThalwegWarning) as caught:
        rows = rows_of(tmp_path, "size,place\n1,mars\nx,south\n,north\n2,\n")
    (warning,) = caught
    assert "1 cell of 'place' of no known category: 'mars'" in str(warning.message)
    assert "1 cell of 'size' taken as missing: 'x'" in str(warning.message)
    assert len(rows.vectors) == 4


def test_a_header_alone_is_refused(tmp_path):
    with pytest.raises(DataError, match="a header and no row"):
        rows_of(tmp_path, "size,place\n")
