"""A CSV file as rows of text, whatever its delimiter, quotes and encoding."""

import csv
import gzip
import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from thalweg.data.samples import UNSPLIT, split_called
from thalweg.errors import DataError, printable
from thalweg.registry import unknown_name

LABEL_WORDS = ("target", "label", "labels", "class", "class_name", "category", "species", "y")
SPLIT_WORDS = ("split", "set", "subset", "partition")
_MISSING = frozenset({"", "nan", "na", "n/a", "null", "inf", "-inf", "+inf"})
_SUFFIXES = (".csv", ".tsv", ".csv.gz", ".tsv.gz")
_DELIMITERS = ",;\t|"
_SNIFFED_ROWS = 50
_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")


class CsvRow(NamedTuple):
    """The cells of a row, and its line in the file, from 1; a quoted cell may hold line breaks."""

    line: int
    cells: list[str]


@dataclass(frozen=True, slots=True)
class CsvFile:
    """A CSV file with its encoding, delimiter and first row."""

    path: Path
    encoding: str
    delimiter: str
    first: tuple[str, ...]  # the first row, stripped: the header, unless it is data

    def rows(self) -> Iterator[CsvRow]:
        """All rows except empty ones, the first included. DataError if the file is no CSV."""
        with _text(self.path, self.encoding) as file:
            reader = csv.reader(file, delimiter=self.delimiter)
            try:
                for cells in reader:
                    if any(cells):
                        yield CsvRow(reader.line_num, cells)
            except (csv.Error, OSError, EOFError, UnicodeError) as error:
                line = reader.line_num
                raise DataError(
                    f"{self.path} cannot be read as CSV",
                    seen=f"line {line}: {error}",
                    fix="save it as plain CSV in UTF-8",
                ) from error


def csv_file(path: Path) -> CsvFile | None:
    """The CSV at the path; None if it has another suffix. DataError if it is empty."""
    if not path.name.lower().endswith(_SUFFIXES) or not path.is_file():
        return None
    encoding = _encoding(path)
    delimiter = max(_DELIMITERS, key=lambda mark: _fitness(path, encoding, mark))
    table = CsvFile(path, encoding, delimiter, ())
    first = next(table.rows(), None)
    if first is None:
        raise DataError(f"{path} is empty", fix="a header and a row for each sample")
    return CsvFile(path, encoding, delimiter, tuple(cell.strip() for cell in first.cells))


def is_missing(cell: str) -> bool:
    """Return whether a cell means that a value is missing."""
    return cell.strip().lower() in _MISSING


def cell_number(cell: str) -> float:
    """The number in the cell, also with a decimal comma; NaN for anything else."""
    try:
        return float(cell.replace(",", "."))
    except ValueError:
        return float("nan")


def column_called(header: Iterable[str], words: tuple[str, ...]) -> int:
    """Index of the column with the first of these names, in any case; −1 if none occurs."""
    names = [name.lower().replace(" ", "_") for name in header]
    return next((names.index(word) for word in words if word in names), -1)


def target_column(header: Sequence[str], target: str) -> int:
    """Index of the column `target`, or of the first with a usual name of targets; −1 for none.

    Raises UnknownNameError if there is no column `target`.
    """
    if not target:
        return column_called(header, LABEL_WORDS)
    if target not in header:
        raise unknown_name("column", target, header)
    return list(header).index(target)


def split_of(row: CsvRow, column: int, path: Path) -> int:
    """The split of a row as an index into SPLITS; UNSPLIT for an empty cell or column −1.

    Raises DataError for any other word.
    """
    word = row.cells[column].strip() if column >= 0 else ""
    split = split_called(word)
    if split == UNSPLIT and not is_missing(word):
        raise DataError(
            f"{path} names an unknown split",
            seen=f"line {row.line}: {printable(word)!r}",
            fix="write train, val or test, or leave the cell empty",
        )
    return split


def _fitness(path: Path, encoding: str, delimiter: str) -> tuple[float, int, int]:
    """Fitness of a delimiter: the share of the first rows that are as wide as the first row.

    Ties go to the delimiter that leaves fewer other delimiters in cells; commas there may be
    decimal.
    """
    table = CsvFile(path, encoding, delimiter, ())
    try:
        rows = [row.cells for row in islice(table.rows(), _SNIFFED_ROWS)]
    except DataError:
        return 0.0, 0, 0
    if not rows or len(rows[0]) < 2:
        return 0.0, 0, 0
    share = sum(len(cells) == len(rows[0]) for cells in rows) / len(rows)
    left = sum(any(mark in cell for mark in _DELIMITERS[1:]) for cells in rows for cell in cells)
    return share, -left, len(rows[0])


def _encoding(path: Path) -> str:
    try:
        with _binary(path) as file:
            mark = file.read(2)
    except (OSError, EOFError) as error:
        raise DataError(f"{path} cannot be read", seen=str(error)) from error
    return "utf-16" if mark in _UTF16_MARKS else "utf-8-sig"


def _text(path: Path, encoding: str) -> io.TextIOWrapper:
    # Keep bytes that are no UTF-8, so that file names in another encoding still work.
    return io.TextIOWrapper(_binary(path), encoding, errors="surrogateescape", newline="")


def _binary(path: Path) -> io.BufferedReader | gzip.GzipFile:
    return gzip.open(path) if path.suffix == ".gz" else path.open("rb")
