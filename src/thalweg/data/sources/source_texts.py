"""The texts to predict in a file: a line each, or a column of a table."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from thalweg.data.sources.pair_lines import are_commands, command_pair, tab_cells
from thalweg.data.sources.table_file import TABLE_SUFFIXES, table_file
from thalweg.data.text.read_text import decode_text, read_text_file
from thalweg.errors import DataError

SNIFFED_LINES = 400


def source_texts(source: Path | bytes, *, column: str) -> Iterator[tuple[str, str]]:
    """(name, text) of each source in a file, or in the bytes of a text.

    A table has them in the column that the model was trained on, or in its only or first one; lines
    with tabs in their first cell.
    Raises: DataError for a file that cannot be read or is empty.
    """
    if isinstance(source, bytes):
        yield from _lines(decode_text(source, name="the text"), name="the text")
        return
    is_tabbed = source.name.lower().endswith(".tsv")
    if source.name.lower().endswith(TABLE_SUFFIXES) and not is_tabbed:
        yield from _cells(source, column)
        return
    if not source.is_file():
        raise DataError(f"there is no {source}", fix="a file with a source in each line")
    yield from _lines(read_text_file(source), name=source.name, column=column)


def _cells(path: Path, column: str) -> Iterator[tuple[str, str]]:
    table = table_file(path)
    if table is None:
        raise DataError(
            f"{path} holds no table",
            seen="no records with the same fields",
            fix=f"records with a field {column!r}, or a source in each line of a .txt file",
        )
    has_header = column in table.first
    place = table.first.index(column) if has_header else 0
    for row in islice(table.rows(), int(has_header), None):
        yield f"{path.name}, row {row.line}", row.cells[place] if place < len(row.cells) else ""


def _lines(text: str, *, name: str, column: str = "") -> Iterator[tuple[str, str]]:
    lines = text.split("\n")
    full = [(number, line) for number, line in enumerate(lines, 1) if line.strip()]
    if not full:
        raise DataError(f"{name} is empty", fix="give a source in each line")
    has_commands = are_commands([line for _, line in full[:SNIFFED_LINES]])
    first = [cell.strip() for cell in tab_cells(full[0][1])]
    has_header = column in first and len(first) > 1
    place = first.index(column) if has_header else 0
    for number, line in full[int(has_header) :]:
        pair = command_pair(line) if has_commands else None
        cells = tab_cells(line)
        yield f"{name}, line {number}", pair[0] if pair else cells[min(place, len(cells) - 1)]
