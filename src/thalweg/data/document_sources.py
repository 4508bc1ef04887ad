"""Read texts for prediction: from rows of a table, from files of text, from values in memory."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from thalweg.data.sources.table import WholeTable, cells_at, rows_to_answer
from thalweg.data.sources.table_file import table_file
from thalweg.data.sources.text_cells import join_texts, text_cell
from thalweg.data.table_rows import cell_vectors
from thalweg.data.tables.column import Column
from thalweg.data.tables.frames import frame_cells, is_frame, record_cells
from thalweg.data.tables.text_columns import is_text_column, names_of_first_row
from thalweg.data.text.documents import Documents
from thalweg.data.text.read_document import decode_document
from thalweg.errors import DataError, UsageError
from thalweg.registry import unknown_name

SAMPLED_ROWS = 200


class DocumentTable(NamedTuple):
    """Texts to predict, with the reasons why some cannot be."""

    names: Sequence[str]
    documents: Documents
    reasons: Mapping[int, str]


def documents_in_file(
    source: Path | bytes, texts: Sequence[str], columns: Sequence[Column]
) -> DocumentTable:
    """The texts of a table's rows, matched by the names of their columns, or of a file of text.

    Raises DataError for a table without the columns, or a file that is no text.
    """
    table = None if isinstance(source, bytes) else table_file(source)
    if table is not None:
        return _table_documents(table, texts, columns)
    name = "the text" if isinstance(source, bytes) else str(source)
    if columns:
        raise DataError(
            f"{name} is no table, and the model takes columns beside the text",
            seen=f"columns {', '.join(column.name for column in columns[:6])}",
            fix="a CSV, JSON lines, Parquet or Arrow file with these columns",
        )
    data = source if isinstance(source, bytes) else source.read_bytes()
    return _documents([name], [decode_document(data, name=name)])


def documents_in_value(
    value: Any, texts: Sequence[str], columns: Sequence[Column]
) -> DocumentTable:
    """The texts of a data frame, of a list of dictionaries, or of a list of texts."""
    if is_frame(value) or _are_records(value):
        cells = frame_cells(value) if is_frame(value) else record_cells(value)
        own = list(texts) or [_only_text(cells)]
        lacking = [name for name in (*own, *(c.name for c in columns)) if name not in cells]
        if lacking:
            raise unknown_name("column", lacking[0], cells)
        joined = [join_texts(row) for row in zip(*(cells[name] for name in own), strict=True)]
        others = list(zip(*(cells[column.name] for column in columns), strict=True))
        return _documents(_numbered(len(joined)), joined, others=others, columns=columns)
    items = [value] if isinstance(value, str) else list(value)
    if columns or not all(isinstance(item, str) for item in items):
        raise UsageError(
            "the model takes texts" + (" beside other columns" if columns else ""),
            seen=type(items[0]).__name__ if items else "an empty list",
            fix="a data frame or a list of dictionaries with the columns of training"
            if columns
            else "a list of texts, or a data frame",
        )
    return _documents(_numbered(len(items)), items)


def _table_documents(
    table: WholeTable, texts: Sequence[str], columns: Sequence[Column]
) -> DocumentTable:
    names, header_rows = _header(table)
    own = list(texts)
    if not own:
        sample = [row.cells for row in islice(table.rows(), header_rows, SAMPLED_ROWS)]
        cells = {name: [row[i] for row in sample if len(row) > i] for i, name in enumerate(names)}
        own = [_only_text(cells)]
    needed = [*own, *(column.name for column in columns)]
    if lacking := [name for name in needed if name not in names]:
        nearest = unknown_name("column", lacking[0], names)
        raise DataError(
            f"{table.path} lacks {len(lacking)} of the model's {len(needed)} columns",
            seen=f"no column {', '.join(map(repr, lacking[:5]))}; {nearest.seen}",
            fix=nearest.fix,
        )
    places = [names.index(name) for name in needed]
    row_names, joined, others, reasons = list[str](), list[str](), list[list[str]](), {}
    for row in islice(rows_to_answer(table), header_rows, None):
        cells_of_row, reason = cells_at(row, places, width=len(table.first))
        if reason:
            reasons[len(joined)] = reason
        joined.append(join_texts(cells_of_row[: len(own)]))
        others.append(cells_of_row[len(own) :])
        row_names.append(f"row {row.line}")
    return _documents(row_names, joined, others=others, columns=columns, reasons=reasons)


def _header(table: WholeTable) -> tuple[list[str], int]:
    """The names of the columns, and the number of rows that hold them."""
    sample = [row.cells for row in islice(table.rows(), SAMPLED_ROWS)]
    names = names_of_first_row(table.first, sample[1:])
    return list(names or table.first), int(not names)


def _only_text(cells: Mapping[str, Sequence[str]]) -> str:
    """The name of the column of texts. Raises DataError where several may be meant."""
    if len(cells) == 1:
        return next(iter(cells))
    candidates = [name for name, column in cells.items() if is_text_column(name, column)]
    if len(candidates) != 1:
        raise DataError(
            "it is not clear which column holds the texts to predict",
            seen=f"columns {', '.join(map(repr, list(cells)[:8]))}",
            fix="give a table with one column of texts",
        )
    return candidates[0]


def _documents(
    names: Sequence[str],
    texts: Iterable[str],
    *,
    others: Sequence[Sequence[str]] = (),
    columns: Sequence[Column] = (),
    reasons: Mapping[int, str] | None = None,
) -> DocumentTable:
    """The texts, and the numbers of the cells beside them."""
    contents = [text_cell(text) for text in texts]
    numbers = np.zeros((len(contents), 0), dtype=np.float32)
    if columns:
        numbers = cell_vectors(others, columns)
    return DocumentTable(names, Documents(contents, numbers), reasons or {})


def _are_records(value: Any) -> bool:
    return isinstance(value, list | tuple) and bool(value) and isinstance(value[0], Mapping)


def _numbered(count: int) -> list[str]:
    return [f"row {number}" for number in range(count)]
