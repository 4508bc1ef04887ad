"""A CSV file as rows of text, whatever its delimiter, quotes and encoding."""

import csv
import gzip
import io
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from thalweg.data.archives.bounds import BoundedStream
from thalweg.data.sources.table import TableRow
from thalweg.errors import DataError
from thalweg.registry import unknown_name

LABEL_WORDS = ("target", "label", "labels", "class", "class_name", "category", "species", "y")
CSV_SUFFIXES = (".csv", ".tsv", ".csv.gz", ".tsv.gz")
_DELIMITERS = ",;\t|"
_SNIFFED_ROWS = 50
LONGEST_CELL = 1 << 24  # characters
csv.field_size_limit(LONGEST_CELL)  # Python's own limit, 131,072, is below a long text's length
_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")


@dataclass(frozen=True, slots=True)
class CsvFile:
    """A CSV file with its encoding, delimiter and first row."""

    path: Path
    encoding: str
    delimiter: str
    first: tuple[str, ...]  # the first row, stripped: the header, unless it is data
    notes: tuple[str, ...] = ()

    def rows(self) -> Iterator[TableRow]:
        """All rows except empty ones, the first included. DataError if the file is no CSV."""
        with _text(self.path, self.encoding) as file:
            reader = csv.reader(file, delimiter=self.delimiter)
            try:
                for cells in reader:
                    if any(cells):
                        yield TableRow(reader.line_num, cells)
            except (csv.Error, OSError, EOFError, UnicodeError, zlib.error) as error:
                line = reader.line_num
                raise DataError(
                    f"{self.path} cannot be read as CSV",
                    seen=f"line {line}: {error}",
                    fix="save it as plain CSV in UTF-8",
                ) from error


def csv_file(path: Path) -> CsvFile | None:
    """The CSV at the path; None if it has another suffix. DataError if it is empty."""
    if not path.name.lower().endswith(CSV_SUFFIXES) or not path.is_file():
        return None
    encoding = _encoding(path)
    delimiter = max(_DELIMITERS, key=lambda mark: _fitness(path, encoding, mark))
    table = CsvFile(path, encoding, delimiter, ())
    first = next(table.rows(), None)
    if first is None:
        raise DataError(f"{path} is empty", fix="a header and a row for each sample")
    return CsvFile(path, encoding, delimiter, tuple(cell.strip() for cell in first.cells))


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
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read", seen=str(error)) from error
    return "utf-16" if mark in _UTF16_MARKS else "utf-8-sig"


def _text(path: Path, encoding: str) -> io.TextIOWrapper:
    # Keep bytes that are no UTF-8, so that file names in another encoding still work.
    return io.TextIOWrapper(_binary(path), encoding, errors="surrogateescape", newline="")


def _binary(path: Path) -> io.BufferedReader:
    if path.suffix.lower() != ".gz":
        return path.open("rb")
    return io.BufferedReader(BoundedStream(gzip.open(path), archive=path))
