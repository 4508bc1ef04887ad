"""The column of a table that says which samples belong together: of one patient, of one video."""

from collections.abc import Sequence

from thalweg.data.sources.csv_file import column_called
from thalweg.data.tables.cells import is_missing
from thalweg.registry import unknown_name

NO_GROUPS = "none"
_NOUNS = ("patient", "subject", "participant", "group", "video")
WORDS = tuple(f"{noun}{end}" for noun in _NOUNS for end in ("", "_id", "id"))
LEAST_GROUPS = 10  # of a column that nobody named: "group" may also be one of a few treatments


def group_column(header: Sequence[str], rows: Sequence[Sequence[str]], name: str) -> int:
    """Index of the column `name`; for "" of one with a usual name, many values and repeats; −1.

    Raises UnknownNameError if there is no column `name`.
    """
    if name == NO_GROUPS:
        return -1
    if name:
        if name not in header:
            raise unknown_name("column", name, header)
        return list(header).index(name)
    index = column_called(header, WORDS)
    cells = [row[index].strip() for row in rows if len(row) > index] if index >= 0 else []
    distinct = {cell for cell in cells if not is_missing(cell)}
    return index if LEAST_GROUPS <= len(distinct) < len(cells) else -1


def group_of(cells: Sequence[str], column: int) -> str:
    """The group of a row; "" for a row of its own."""
    cell = cells[column].strip() if column >= 0 else ""
    return "" if is_missing(cell) else cell
