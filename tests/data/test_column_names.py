"""Names of columns that occur several times in a header."""

import pytest

from thalweg.data.sources.csv_file import MOST_COLUMNS, csv_file, distinct_names
from thalweg.errors import DataError


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("a b a a", "a b a.1 a.2"),
        ("a a.1 a a", "a a.1 a.2 a.3"),  # a name that another column has
        ("a a b b a", "a a.1 b b.1 a.2"),
    ],
)
def test_a_repeated_name_is_numbered(header, expected):
    names, repeated = distinct_names(header.split())
    assert " ".join(names) == expected
    assert set(repeated) <= {"a", "b"}


def test_ten_thousand_columns_of_one_name():  # cubic once: it did not end
    names, repeated = distinct_names(["", ""] + ["x"] * 10_000)
    assert names[:4] == ("", "", "x", "x.1")
    assert names[-1] == "x.9999"
    assert repeated == ("x",)


def test_more_columns_than_can_be_named_are_refused(tmp_path):
    path = tmp_path / "wide.csv"
    path.write_text(",".join(["x"] * (MOST_COLUMNS + 1)) + "\n")
    with pytest.raises(DataError, match="too many columns"):
        csv_file(path)
