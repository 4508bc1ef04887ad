"""Data frames (pandas, polars and alike) → the cells of a table, by their own methods alone."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from thalweg.errors import UsageError


def is_frame(value: object) -> bool:
    """Return whether it has named columns: a data frame of pandas, polars or alike."""
    return hasattr(value, "columns") and hasattr(value, "__getitem__")


def frame_cells(frame: Any) -> dict[str, list[str]]:
    """The cells of each column as text, by the column's name."""
    names = [str(name) for name in frame.columns]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UsageError(
            "columns of the data frame have the same name",
            seen=", ".join(map(repr, twice)),
            fix="rename them: a column is read by its name",
        )
    if all(name.isdecimal() for name in names):  # a header of numbers reads like a row
        names = [f"column {name}" for name in names]
    labels = list(frame.columns)
    return {name: column_texts(frame[label]) for name, label in zip(names, labels, strict=True)}


def column_texts(column: Iterable[object]) -> list[str]:
    """The values of a column, or of an array [n], as cells."""
    values = column.tolist() if isinstance(column, np.ndarray) else list(column)
    return [cell_text(value) for value in values]


def cell_text(value: object) -> str:
    """The text of a value; "" for None, NaN and the missing values of pandas."""
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return ""
    if isinstance(value, float | np.floating):
        return "" if value != value else repr(float(value))
    return value if isinstance(value, str) else str(value)


def array_cells(rows: np.ndarray) -> dict[str, list[str]]:
    """The cells of an array [n, column] of any values, its columns numbered."""
    return {f"column {place}": column_texts(rows[:, place]) for place in range(rows.shape[1])}


def record_cells(records: Sequence[Mapping[str, object]]) -> dict[str, list[str]]:
    """The cells of rows that are dictionaries; "" where one lacks a column."""
    names = dict.fromkeys(str(name) for record in records for name in record)
    return {name: [cell_text(record.get(name)) for record in records] for name in names}
