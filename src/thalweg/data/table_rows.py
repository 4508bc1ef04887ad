"""Read the rows of a table for prediction; columns are matched by name."""

import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32

from thalweg.data.sources.table import Table, cells_at, rows_to_answer
from thalweg.data.sources.table_file import table_file
from thalweg.data.tables.cells import cell_number, is_missing
from thalweg.data.tables.column import OTHER, Column
from thalweg.data.tables.frames import column_texts
from thalweg.errors import DataError, ThalwegWarning
from thalweg.registry import unknown_name
from thalweg.wording import count as counted
from thalweg.wording import some


class TableRows(NamedTuple):
    """The features of each row, in the model's order."""

    names: list[str]  # "row 2" is the second line of the file
    vectors: Float32[np.ndarray, "row feature"]
    reasons: dict[int, str]  # rows that cannot be predicted, and why


def table_rows(path: Path, *, columns: Sequence[Column], count: int = 0) -> TableRows:
    """Read the model's columns from each row of a file; skip further columns.

    Missing numbers are NaN. Without a header, or where the model has no names of columns but
    `count` numbers, the columns are taken in their order.
    Raises DataError for what is no table, has no row, or lacks a column. Warns (ThalwegWarning) of
    cells that training has not met.
    """
    table = table_file(path)
    if table is None:
        raise DataError(
            f"{path} is no table that can be read",
            seen="the model takes rows of a table",
            fix="a CSV, Parquet or Arrow file with a column for each feature",
        )
    names = [column.name for column in columns]
    columns = columns or _numbered(count)
    places, header_rows = _places(table, names, len(columns))
    row_names, reasons = list[str](), dict[int, str]()
    cells: list[list[str]] = []
    for row in islice(rows_to_answer(table), header_rows, None):
        own, reason = cells_at(row, places, width=len(table.first))
        if reason:
            reasons[len(cells)] = reason
        cells.append(own)
        row_names.append(f"row {row.line}")
    if not cells:
        raise DataError(f"{path} has a header and no row", fix="give a row for each prediction")
    if strange := _strange_cells(cells, columns):
        warnings.warn(f"{path}: {'; '.join(strange)}", ThalwegWarning, stacklevel=2)
    return TableRows(row_names, cell_vectors(cells, columns), reasons)


def _strange_cells(cells: Sequence[Sequence[str]], columns: Sequence[Column]) -> list[str]:
    """A note on each column with cells that training has not met, or that are no numbers."""
    notes = []
    for column, own in zip(columns, zip(*cells, strict=True), strict=True):
        is_category = column.kind == "category"
        counts = Counter(own)
        strange = [
            cell
            for cell in counts
            if not is_missing(cell)
            and (column.numbers([cell]) == OTHER if is_category else not column.is_readable(cell))
        ]
        if strange:
            number = sum(counts[cell] for cell in strange)
            what = "of no known category" if is_category else "taken as missing"
            examples = some([repr(cell.strip()[:40]) for cell in strange])
            notes.append(f"{counted(number, 'cell')} of {column.name!r} {what}: {examples}")
    return notes


def _fix(missing: str, names: Iterable[str]) -> str:
    """The way to give the model a column that the data lack."""
    close = get_close_matches(missing, list(names), n=1)
    add = f"add a column {missing!r}; an empty cell is a missing value"
    return f"rename {close[0]!r} to {missing!r}, or {add}" if close else add


def named_vectors(
    cells: Mapping[str, Sequence[str]], columns: Sequence[Column], *, count: int
) -> Float32[np.ndarray, "row feature"]:
    """The numbers of rows that are columns of cells, matched by name; further ones are skipped."""
    own = [column.name for column in columns]
    missing = [name for name in own if name not in cells]
    if missing:
        nearest = unknown_name("column", missing[0], cells)
        raise DataError(
            f"the data lack {len(missing)} of the model's {len(own)} columns",
            seen=f"no column {', '.join(map(repr, missing[:5]))}; {nearest.seen}",
            fix=_fix(missing[0], cells),
        )
    if not own:  # the model was trained on an array, whose columns have no names
        return ordered_vectors(np.array(list(cells.values()), dtype=object).T, _numbered(count))
    return cell_vectors(list(zip(*(cells[name] for name in own), strict=True)), columns)


def ordered_vectors(
    rows: np.ndarray, columns: Sequence[Column]
) -> Float32[np.ndarray, "row feature"]:
    """The numbers of an array's rows, whose columns are in the model's order."""
    if rows.ndim != 2 or rows.shape[1] != len(columns):
        raise DataError(
            "the array has not the columns that the model was trained on",
            seen=f"shape {'×'.join(map(str, rows.shape))}, {len(columns)} columns",
            fix=f"rows of {', '.join(column.name for column in columns[:8])}",
        )
    if rows.dtype.kind in "biuf" and all(column.kind == "number" for column in columns):
        with np.errstate(over="ignore"):  # what no float32 holds is missing, as in training
            return rows.astype(np.float32)
    return cell_vectors([column_texts(row) for row in rows], columns)


def _numbered(count: int) -> list[Column]:
    return [Column(name=str(number)) for number in range(count)]


def cell_vectors(
    cells: Sequence[Sequence[str]], columns: Sequence[Column]
) -> Float32[np.ndarray, "row feature"]:
    """The numbers of rows of cells, one cell for each column."""
    width = sum(len(column.features) for column in columns)
    if not cells:
        return np.zeros((0, width), dtype=np.float32)
    by_column = zip(columns, zip(*cells, strict=True), strict=True)
    parts = [column.numbers(own) for column, own in by_column]
    return np.concatenate(parts, axis=1).astype(np.float32)


def _places(table: Table, names: Sequence[str], count: int) -> tuple[Sequence[int], int]:
    """The place of each column, and the number of header rows. Raises DataError."""
    numbered = all(np.isfinite(cell_number(cell)) for cell in table.first)
    if not names or numbered:
        if len(table.first) != count:
            raise DataError(
                f"{table.path} has not the columns that the model was trained on",
                seen=f"{len(table.first)} columns, {count} features",
                fix=f"columns {', '.join(names)}" if names else f"{count} columns of numbers",
            )
        return range(count), int(not numbered)
    missing = [name for name in names if name not in table.first]
    if missing:
        nearest = unknown_name("column", missing[0], table.first)
        raise DataError(
            f"{table.path} lacks {len(missing)} of the model's {count} features",
            seen=f"no column {', '.join(map(repr, missing[:5]))}; {nearest.seen}",
            fix=_fix(missing[0], table.first),
        )
    return [table.first.index(name) for name in names], 1
