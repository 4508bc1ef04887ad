"""A table in a file, whatever its format: its header and its rows, all cells as text."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable


class TableRow(NamedTuple):
    """The cells of a row, and its line in a CSV, or its number from 1 in another format.

    A quoted cell of a CSV may hold line breaks, so that lines are more than rows.
    """

    line: int
    cells: list[str]


@runtime_checkable
class Table(Protocol):
    """A table that is read from its beginning each time."""

    @property
    def path(self) -> Path:
        """The file."""

    @property
    def first(self) -> tuple[str, ...]:
        """The first row, stripped: the header, unless it is data."""

    @property
    def repeated(self) -> tuple[str, ...]:
        """Names that several columns have; the later ones are called NAME.1, … in `first`."""

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes on columns that are left out because of their type."""

    @property
    def has_decimal_commas(self) -> bool:
        """Return whether a comma in a number is rather decimal than one of thousands."""

    def rows(self) -> Iterator[TableRow]:
        """All rows except empty ones, the first included. DataError for a damaged file."""


class WholeTable(Table, Protocol):
    """A table that also tells of its rows of empty cells."""

    def every_row(self) -> Iterator[TableRow]:
        """The first row and all below it. DataError for a damaged file."""


def filled_rows(rows: Iterable[TableRow]) -> Iterator[TableRow]:
    """The rows with any cell that is not empty."""
    return (row for row in rows if any(row.cells))


def rows_to_answer(table: WholeTable) -> Iterator[TableRow]:
    """The rows of a table, those of empty cells between others too: each gets its answer.

    Below the last one they are none: spreadsheets write some under a table.
    """
    empty: list[TableRow] = []
    for row in table.every_row():
        if not any(row.cells):
            empty.append(row)
            continue
        yield from empty
        yield row
        empty = []


def cells_at(row: TableRow, places: Sequence[int], *, width: int) -> tuple[list[str], str]:
    """The row's cells at these places, and why they are not those of a table so wide, if so."""
    if len(row.cells) <= max(places):
        return [""] * len(places), f"{len(row.cells)} cells are too few"
    # A comma in a number or a text has moved those behind it.
    reason = f"{len(row.cells)} cells in {width} columns" if any(row.cells[width:]) else ""
    return [row.cells[place] for place in places], reason
