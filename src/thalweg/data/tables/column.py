"""A column of a table: what it holds, and its cells as numbers."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from math import isfinite
from typing import Any, Literal, get_args

import numpy as np
from jaxtyping import Float64

from thalweg.data.tables.cells import cell_number, is_missing, plain_numbers
from thalweg.data.tables.dates import FORMS, date_numbers, moment_in
from thalweg.data.tables.written_numbers import FORMS as NUMBER_FORMS
from thalweg.data.tables.written_numbers import written_number

Kind = Literal["number", "flag", "category", "date"]
LARGEST = float(np.finfo(np.float32).max)
FLAGS = {
    **dict.fromkeys(("true", "yes", "t", "y", "on"), 1.0),
    **dict.fromkeys(("false", "no", "f", "n", "off"), 0.0),
}
MISSING = ""  # the text of a missing cell, where that is an entry of a category
OTHER = 0.0  # the entry of texts that training has not, or hardly, met


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column whose cells become numbers: one, or several for a date."""

    name: str
    kind: Kind = "number"
    texts: tuple[str, ...] = ()  # of a category: the texts of the entries 1, 2, …; 0 is any other
    form: str = ""  # of a date, or of numbers that are not plain ones
    # Of a date: the earliest one, in days since the year 1. Of numbers: what is taken off each.
    origin: float = 0.0
    parts: tuple[str, ...] = ()  # of a date: the numbers that are made of it

    @property
    def features(self) -> tuple[str, ...]:
        """The names of its numbers."""
        if self.kind != "date":
            return (self.name,)
        return tuple(f"{self.name}: {part}" for part in self.parts)

    def numbers(self, cells: Sequence[str]) -> Float64[np.ndarray, "row number"]:
        """The cells as numbers; NaN for what is missing, the entry's number for a category."""
        if self.kind == "category":
            entries = {text: index for index, text in enumerate(self.texts, start=1)}
            code_of = {cell: entries.get(category_text(cell), OTHER) for cell in set(cells)}
            codes = [code_of[cell] for cell in cells]
            return np.array(codes, dtype=np.float64).reshape(-1, 1)
        if self.kind == "date":
            return date_numbers(cells, form=self.form, parts=self.parts, origin=self.origin)
        if self.kind == "flag":
            flag_of = {cell: FLAGS.get(cell.strip().lower(), np.nan) for cell in set(cells)}
            flags = [flag_of[cell] for cell in cells]
            return np.array(flags, dtype=np.float64).reshape(-1, 1)
        if self.form:
            values = np.array([written_number(cell, self.form) for cell in cells], dtype=np.float64)
        else:
            values = plain_numbers(cells)
        values = np.where(np.abs(values) <= LARGEST, values, np.nan)
        return (values - self.origin).reshape(-1, 1)

    def is_readable(self, cell: str) -> bool:
        """Return whether the cell is missing, or holds what the column holds."""
        if is_missing(cell) or self.kind == "category":
            return True
        if self.kind == "date":
            return moment_in(cell, self.form) is not None
        if self.kind == "flag":
            return cell.strip().lower() in FLAGS
        number = written_number(cell, self.form) if self.form else cell_number(cell)
        return abs(number) <= LARGEST  # not for NaN

    def with_origin(self, cells: Sequence[str]) -> "Column":
        """The same, or one that counts from its least number where float32 merges numbers.

        A bar code, a time in milliseconds or a coordinate in metres has more digits in common than
        float32 holds.
        """
        if self.kind != "number":
            return self
        numbers = self.numbers(cells)
        distinct = np.unique(numbers[np.isfinite(numbers)])
        if len(np.unique(distinct.astype(np.float32))) == len(distinct):
            return self
        return replace(self, origin=float(distinct[0]))

    def with_texts(self, texts: Sequence[str]) -> "Column":
        return replace(self, texts=tuple(texts))

    def to_dict(self) -> dict[str, Any]:
        """The values for JSON that differ from their defaults."""
        defaults = asdict(Column(name=""))
        return {name: v for name, v in asdict(self).items() if v != defaults[name]}


def restore_column(values: Mapping[str, Any]) -> Column:
    """The inverse of `Column.to_dict`. Raises ValueError or TypeError for values of other types."""
    if not isinstance(values, Mapping):
        raise TypeError(f"no column: {str(values)[:60]}")
    texts, parts = (tuple(values.get(name, ())) for name in ("texts", "parts"))
    column = Column(**{**values, "texts": texts, "parts": parts})
    if not isinstance(column.origin, int | float) or not isfinite(column.origin):
        raise ValueError(f"no origin: {str(column.origin)[:60]}")
    words = (column.name, column.form, *texts, *parts)
    if not all(isinstance(word, str) for word in words) or column.kind not in get_args(Kind):
        raise ValueError(f"no column: {str(values)[:60]}")
    if column.kind == "number" and column.form and not column.form.startswith(NUMBER_FORMS):
        raise ValueError(f"no form of numbers: {column.form[:60]!r}")
    if column.kind == "date":
        column.numbers(["2000-01-01"])  # raises KeyError for a part that does not exist
        if not column.form.startswith(FORMS) or not parts:
            raise ValueError(f"no form of dates: {column.form[:60]!r}")
    return column


def category_text(cell: str) -> str:
    """The text of an entry: without outer spaces; `MISSING` for a missing cell."""
    return MISSING if is_missing(cell) else cell.strip()
