"""A table in a file, whatever its format: its header and its rows, all cells as text."""

from collections.abc import Iterator
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
