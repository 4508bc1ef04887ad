"""A file of pairs: a table of two columns, cells between tabs, or commands with their outputs."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from thalweg.data.samples import Samples
from thalweg.data.sources.list_file import list_file
from thalweg.data.sources.pair_columns import NamedColumns, PairColumns, pair_columns
from thalweg.data.sources.pair_lines import (
    SOURCE,
    TARGET,
    are_commands,
    are_tab_separated,
    command_pair,
    tab_cells,
)
from thalweg.data.sources.pair_rows import PairRow, PairRows, pair_samples
from thalweg.data.sources.table import Table, TableRow
from thalweg.data.sources.table_file import TABLE_SUFFIXES, table_file
from thalweg.data.text.read_text import read_text_file
from thalweg.errors import DataError
from thalweg.wording import some

SEQUENCE = "sequence"  # the task
LINES = (".txt", ".text", ".tsv")  # suffixes of files that are read line by line
SAMPLED_ROWS = 2_000  # to detect the columns
SNIFFED_LINES = 400


def pair_file(path: Path, *, target: str = "", column: str = "", task: str = "") -> Samples | None:
    """The pairs in a file. None for no file, or where it is not beyond doubt that it holds pairs.

    Named by the task "sequence" or by the `column` of sources, any table of two columns does.
    Raises: DataError, UnknownNameError where pairs are named and there are none.
    """
    is_named = task == SEQUENCE or bool(column)
    if not path.is_file() or (not is_named and (task or target or list_file(path) is not None)):
        return None
    pairs = read_pairs(path, named=NamedColumns(column, target), is_named=is_named)
    return None if pairs is None else pair_samples(path, pairs)


def read_pairs(path: Path, *, named: NamedColumns, is_named: bool) -> PairRows | None:
    """The pairs in a file; None as `pair_file`."""
    if path.suffix.lower() in LINES:
        lines = read_text_file(path).split("\n") if is_named or _may_be_pairs(path) else []
        if are_commands(lines[:SNIFFED_LINES]):
            return _commands(path, lines)
        if are_tab_separated(lines[:SNIFFED_LINES]):
            return _table(TabbedLines(path, lines), named=named, is_named=is_named)
    if path.name.lower().endswith(TABLE_SUFFIXES):
        table = table_file(path)
        if table is not None:
            return _table(table, named=named, is_named=is_named)
    if is_named:
        raise DataError(
            f"{path} holds no pairs of sequences",
            seen="no tabs between two cells of a line, nor lines of the form IN: … OUT: …",
            fix="give a CSV of two columns, or lines with a tab between source and target",
        )
    return None


def _may_be_pairs(path: Path) -> bool:
    """Return whether the first line has a tab or the form of SCAN: other texts are not read."""
    with path.open("rb") as file:
        start = file.read(4096).removeprefix(b"\xef\xbb\xbf").lstrip()
    return b"\t" in start or start.startswith(b"IN:")


def _commands(path: Path, lines: Sequence[str]) -> PairRows:
    pairs = PairRows(source_name=SOURCE, target_name=TARGET)
    pairs.notes.append(f"pairs: the lines of {path.name}, what stands behind IN: and behind OUT:")
    for number, line in enumerate(lines, 1):
        if line.strip():
            source, target = command_pair(line) or ("", "")
            pairs.add([PairRow(f"line {number}", source, target)])
    return pairs


@dataclass(frozen=True, slots=True)
class TabbedLines:
    """Lines of cells between tabs, as a table: no cell goes on in the next line."""

    path: Path
    lines: Sequence[str]
    notes: tuple[str, ...] = ()
    has_decimal_commas: bool = False
    repeated: tuple[str, ...] = ()

    @property
    def first(self) -> tuple[str, ...]:
        """The cells of the first line."""
        return tuple(cell.strip() for cell in next(self.rows()).cells)

    def rows(self) -> Iterator[TableRow]:
        """The cells of all lines that have any."""
        for number, line in enumerate(self.lines, 1):
            if line.strip():
                yield TableRow(number, list(tab_cells(line)))


def _table(table: Table, *, named: NamedColumns, is_named: bool) -> PairRows | None:
    """The pairs of a table; None where its columns are in doubt."""
    sample = [row.cells for row in islice(table.rows(), 1, SAMPLED_ROWS)]
    columns = pair_columns(table.first, sample, named=named, is_named=is_named)
    if columns is None:
        return None
    pairs = _described(table.path, columns)
    pairs.notes += [*table.notes, *columns.split.notes()]
    for row in islice(table.rows(), int(columns.has_header), None):
        pairs.add([_pair(table, columns, row)])
    return pairs


def _described(path: Path, columns: PairColumns) -> PairRows:
    """No rows yet, and a note on which columns are read and written."""
    source, target = columns.names[columns.source], columns.names[columns.target]
    pairs = PairRows(source_name=source, target_name=target)
    pairs.notes.append(
        f"pairs: {source!r} is read, {target!r} is written; --source NAME --target NAME takes "
        "other columns"
        if columns.has_header
        else f"pairs: {path.name} has no header: its first column is read, its second is written"
    )
    if columns.unused:
        unused = some([repr(name) for name in columns.unused])
        pairs.notes.append(f"columns that are not used: {unused}")
    return pairs


def _pair(table: Table, columns: PairColumns, row: TableRow) -> PairRow:
    """The pair of a row; one without texts where the row has too few cells."""
    cells, name = row.cells, f"row {row.line}"
    if len(cells) <= max(columns.source, columns.target, columns.split.index):
        return PairRow(name, "", "")
    source, target = cells[columns.source], cells[columns.target]
    if not (source + target).isprintable():
        _check_encoding(table.path, row.line, source + target)
    return PairRow(name, source, target, columns.split.of(row, table))


def _check_encoding(path: Path, line: int, text: str) -> None:
    """Raise DataError for bytes that are no UTF-8, which a table keeps as lone surrogates."""
    strange = [char for char in text if "\udc80" <= char <= "\udcff"]
    if strange:
        raise DataError(
            f"{path} is not in UTF-8",
            seen=f"byte 0x{ord(strange[0]) - 0xDC00:02x} in line {line:,}",
            fix="save it as UTF-8, such as: iconv -f ISO-8859-1 -t UTF-8 FILE > NEW.csv",
        )
