"""Rows of a table that a trained model is to judge: its features by their names."""

from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32

from thalweg.data.preprocessing import Preprocessing
from thalweg.data.sources.csv_file import CsvFile, csv_file
from thalweg.errors import DataError
from thalweg.registry import unknown_name


class TableRows(NamedTuple):
    names: list[str]  # "row 2" is the second line of the file
    vectors: Float32[np.ndarray, "row feature"]
    reasons: dict[int, str]  # rows that cannot be judged, and why


def table_rows(path: Path, preprocessing: Preprocessing) -> TableRows:
    """The model's features of each row of a CSV, in the model's order; further columns are passed
    over. A missing number becomes the feature's training mean, as in training.

    Without a header, or where the model knows no names, the columns are taken in their order.
    Raises DataError for what is no CSV, or lacks a column.
    """
    table = csv_file(path)
    if table is None:
        raise DataError(
            f"{path} is no table that can be read",
            seen="the model takes rows of numbers",
            fix="a CSV with a column for each feature",
        )
    columns, skipped = _columns(table, preprocessing)
    found = TableRows([], np.empty((0, len(columns)), np.float32), {})
    vectors: list[list[float]] = []
    for row in islice(table.rows(), skipped, None):
        wide = len(row.cells) > max(columns)
        if not wide:
            found.reasons[len(vectors)] = f"{len(row.cells)} cells are too few"
        cells = [_number(row.cells[column]) if wide else np.nan for column in columns]
        found.names.append(f"row {row.line}")
        vectors.append(cells)
    array = np.array(vectors, dtype=np.float64).reshape(-1, len(columns))
    filled = np.where(np.isfinite(array), array, np.array(preprocessing.mean))
    return found._replace(vectors=filled.astype(np.float32))


def _columns(table: CsvFile, preprocessing: Preprocessing) -> tuple[Sequence[int], int]:
    """Where each feature stands, and how many rows are header. Raises DataError."""
    count, names = len(preprocessing.mean), preprocessing.features
    numbered = all(np.isfinite(_number(cell)) for cell in table.first)
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
            fix=nearest.fix,
        )
    return [table.first.index(name) for name in names], 1


def _number(cell: str) -> float:
    """The cell's number, also with a decimal comma; NaN for anything else."""
    try:
        return float(cell.replace(",", "."))
    except ValueError:
        return float("nan")
