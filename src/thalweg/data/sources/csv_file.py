"""A CSV file as rows of text, whatever its delimiter, quotes and encoding."""

import codecs
import csv
import gzip
import io
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from thalweg.data.archives.bounds import BoundedStream
from thalweg.data.sources.table import TableRow, filled_rows
from thalweg.data.tables.cells import is_number
from thalweg.errors import DataError
from thalweg.registry import unknown_name
from thalweg.wording import some

LABEL_WORDS = ("target", "label", "labels", "class", "class_name", "category", "species", "y")
CSV_SUFFIXES = (".csv", ".tsv", ".csv.gz", ".tsv.gz")
_DELIMITERS = ",;\t|"
MOST_COLUMNS = 200_000  # beyond, even naming them takes minutes
_SNIFFED_ROWS = 50
_MOST_TITLE_ROWS = 20
LONGEST_CELL = 1 << 24  # characters
csv.field_size_limit(LONGEST_CELL)  # Python's own limit, 131,072, is below a long text's length
_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")
UTF8, WESTERN = "utf-8-sig", "cp1252"  # which Excel writes west of Poland; it contains Latin-1
_UNUSED = frozenset(b"\x81\x8d\x8f\x90\x9d")  # no characters there: another encoding has them
_SNIFFED_BYTES = 1 << 20
_SHEET = "open it in the program that wrote it, and save the sheet as CSV"
_FOREIGN_STARTS = {  # first bytes → what the file is, and what to do
    b"PK\x03\x04": ("an Excel workbook, or another zip", _SHEET),
    b"\xd0\xcf\x11\xe0": ("an old Excel workbook", _SHEET),
    b"<!doctype": ("a page of HTML", _SHEET),
    b"<html": ("a page of HTML", _SHEET),
    b"<table": ("a page of HTML", _SHEET),
    b"<?xml": ("a file of XML", _SHEET),
    b"%PDF": ("a PDF", "save its table as CSV"),
    b"PAR1\x15": ("a Parquet file", "call it .parquet"),
    b"ARROW1\0\0": ("an Arrow file", "call it .arrow"),
    b"\x1f\x8b": ("packed by gzip", "call it .csv.gz"),
}


@dataclass(frozen=True, slots=True)
class CsvFile:
    """A CSV file with its encoding, delimiter and first row."""

    path: Path
    encoding: str
    delimiter: str
    first: tuple[str, ...]  # the first row, stripped: the header, unless it is data
    notes: tuple[str, ...] = ()
    title_rows: int = 0  # above the header, which are no part of the table
    repeated: tuple[str, ...] = ()  # names that several columns have

    @property
    def has_decimal_commas(self) -> bool:
        """Return whether a comma in a number is rather decimal than one of thousands."""
        return self.delimiter == ";"

    def rows(self) -> Iterator[TableRow]:
        """All rows except empty ones, the first included. DataError if the file is no CSV."""
        yield from filled_rows(self.every_row())

    def every_row(self) -> Iterator[TableRow]:
        """The first row and all below it; an empty line is none. DataError if it is no CSV."""
        above = self.title_rows
        rows = (row for row in self._lines() if row.cells)
        for row in rows:
            if any(row.cells):
                if not above:
                    yield row
                    break
                above -= 1
        yield from rows

    def _lines(self) -> Iterator[TableRow]:
        with _text(self.path, self.encoding) as file:
            reader = csv.reader(file, delimiter=self.delimiter)
            try:
                for cells in reader:
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
    rows = list(islice(table.rows(), _SNIFFED_ROWS))
    if not rows:
        raise DataError(f"{path} is empty", fix="a header and a row for each sample")
    if len(rows[0].cells) > MOST_COLUMNS:
        raise DataError(
            f"{path} has too many columns",
            seen=f"{len(rows[0].cells):,}",
            fix=f"at most {MOST_COLUMNS:,} columns, or the rows as an array: .npz with x and y",
        )
    above = _title_rows(rows)
    first = tuple(cell.strip() for cell in rows[above].cells)
    notes: tuple[str, ...] = ()
    if encoding == WESTERN:
        notes += (
            f"{path.name} is no UTF-8: read as Windows-1252 (Latin-1); save it as UTF-8 if "
            "letters look wrong",
        )
    if above:
        lines = some([repr(" ".join(filter(None, row.cells))[:40]) for row in rows[:above]])
        notes += (f"{above} rows above the header are no part of the table: {lines}",)
    first, repeated = distinct_names(first)
    if repeated:
        quoted = some([repr(name) for name in repeated])
        notes += (f"several columns are called {quoted}: the later ones are read as NAME.1, …",)
    return CsvFile(path, encoding, delimiter, first, notes, above, repeated)


def distinct_names(header: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The header with x, x.1, x.2 for columns x, x, x, as pandas has it, and the repeated names.

    A first row of numbers, or nameless columns, stay as they are.
    """
    counts = Counter(name for name in header if name)
    repeated = tuple(name for name, count in counts.items() if count > 1)
    if all(map(is_number, header)):
        return tuple(header), ()
    several, numbers = frozenset(repeated), Counter[str]()
    names: list[str] = []
    used: set[str] = set()
    for name in header:
        unique = name
        while name in several and (unique in used or (unique != name and unique in counts)):
            numbers[name] += 1
            unique = f"{name}.{numbers[name]}"
        names.append(unique)
        used.add(unique)
    return tuple(names), repeated


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
        every_row = list(islice(table.rows(), _SNIFFED_ROWS))
    except DataError:
        return 0.0, 0, 0
    rows = [row.cells for row in every_row[_title_rows(every_row) :]]
    if not rows or len(rows[0]) < 2:
        return 0.0, 0, 0
    share = sum(len(cells) == len(rows[0]) for cells in rows) / len(rows)
    left = sum(any(mark in cell for mark in _DELIMITERS[1:]) for cells in rows for cell in cells)
    return share, -left, len(rows[0])


def _title_rows(rows: Sequence[TableRow]) -> int:
    """The number of rows above the header: a title, a source, comments; 0 for none.

    They have one cell each, or begin with a #, or are narrower and parted from the header by an
    empty line; the header below them has a word for each cell of nearly all rows.
    """
    widths = Counter(len(row.cells) for row in rows)
    width = max(widths, key=lambda w: (widths[w], w), default=0)
    headers = (
        place
        for place, (_, cells) in enumerate(rows[: _MOST_TITLE_ROWS + 1])
        if len(cells) == width and all(cell.strip() and not is_number(cell) for cell in cells)
    )
    above = next(headers, 0)
    is_parted = bool(above) and _is_parted(rows[above - 1], rows[above])
    are_titles = all(
        cells[0].lstrip().startswith("#")
        or (sum(map(bool, cells)) == 1 and not len(cells) == width == 2)  # x and a nameless column
        or (is_parted and len(cells) < width)
        for _, cells in rows[:above]
    )
    return above if are_titles and width > 1 and len(rows) > above + 1 else 0


def _is_parted(row: TableRow, following: TableRow) -> bool:
    """Return whether empty lines stand between two rows."""
    return following.line - row.line > 1 and not any("\n" in cell for cell in following.cells)


def _encoding(path: Path) -> str:
    """UTF-16 by its mark, UTF-8, or the Western encoding where the bytes are no UTF-8.

    Raises DataError for a file of another kind that is called CSV.
    """
    try:
        with _binary(path) as file:
            start = file.read(_SNIFFED_BYTES)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read", seen=str(error)) from error
    if start[:2] in _UTF16_MARKS:
        return "utf-16"
    head = start.removeprefix(codecs.BOM_UTF8).lstrip()[:16]
    for mark, (kind, fix) in _FOREIGN_STARTS.items():
        if head.startswith(mark) or head.lower().startswith(mark):  # <HTML
            raise DataError(f"{path} is no CSV", seen=kind, fix=fix)
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        decoder.decode(start, final=len(start) < _SNIFFED_BYTES)
    except UnicodeDecodeError:
        return WESTERN if _UNUSED.isdisjoint(start) else UTF8
    return UTF8


def _text(path: Path, encoding: str) -> io.TextIOWrapper:
    # Keep bytes that are no UTF-8, so that file names in another encoding still work.
    return io.TextIOWrapper(_binary(path), encoding, errors="surrogateescape", newline="")


def _binary(path: Path) -> io.BufferedReader:
    if path.suffix.lower() != ".gz":
        return path.open("rb")
    return io.BufferedReader(BoundedStream(gzip.open(path), archive=path))
