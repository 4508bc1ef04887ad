"""Read the rows of a table for prediction; columns are matched by name."""

from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32

from thalweg.data.sources.csv_file import CsvFile, cell_number, csv_file
from thalweg.errors import DataError
from thalweg.registry import unknown_name


class TableRows(NamedTuple):
    """The features of each row, in the model's order."""

    names: list[str]  # "row 2" is the second line of the file
    vectors: Float32[np.ndarray, "row feature"]
    reasons: dict[int, str]  # rows that cannot be predicted, and why


def table_rows(path: Path, *, features: Sequence[str], means: Sequence[float]) -> TableRows:
    """Read the model's features from each row of a CSV; skip further columns.

    A missing number becomes the feature's training mean, as in training. Without a header, or where
    the features have no names, the columns are taken in their order.
    Raises DataError for what is no CSV, or lacks a column.
    """
    table = csv_file(path)
    if table is None:
        raise DataError(
            f"{path} is no table that can be read",
            seen="the model takes rows of numbers",
            fix="a CSV with a column for each feature",
        )
    columns, header_rows = _columns(table, features, len(means))
    names, reasons = list[str](), dict[int, str]()
    vectors: list[list[float]] = []
    for row in islice(table.rows(), header_rows, None):
        is_whole = len(row.cells) > max(columns)
        if not is_whole:
            reasons[len(vectors)] = f"{len(row.cells)} cells are too few"
        vectors.append([cell_number(row.cells[c]) if is_whole else np.nan for c in columns])
        names.append(f"row {row.line}")
    array = np.array(vectors, dtype=np.float64).reshape(-1, len(columns))
    filled = np.where(np.isfinite(array), array, np.array(means))
    return TableRows(names, filled.astype(np.float32), reasons)


def _columns(table: CsvFile, names: Sequence[str], count: int) -> tuple[Sequence[int], int]:
    """The column of each feature, and the number of header rows. Raises DataError."""
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
            fix=nearest.fix,
        )
    return [table.first.index(name) for name in names], 1
