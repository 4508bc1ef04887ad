"""Columns of a table that say yes or no, one a label: path, ant, bee, cat."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from thalweg.data.samples import Labels
from thalweg.data.sources.csv_file import LABEL_WORDS
from thalweg.data.tables.cells import is_missing
from thalweg.registry import unknown_name

YES = frozenset({"1", "1.0", "true", "yes", "t", "y"})
NO = frozenset({"0", "0.0", "false", "no", "f", "n"})
MINUS = frozenset({"-1", "-1.0"})  # no, in columns that hold 1 and −1 alone; beside 0, neither
_MARK = "\x1f"  # between the labels of a row; ASCII's own separator of units


class LabelColumns(NamedTuple):
    """The columns of labels; none where one column holds the targets."""

    indices: tuple[int, ...] = ()
    names: tuple[str, ...] = ()

    def text(self, cells: Sequence[str]) -> str:
        """The labels that hold in a row, as one text for `labels_of`."""
        pairs = zip(self.indices, self.names, strict=True)
        return _MARK.join(name for index, name in pairs if _word(cells, index) in YES)

    def refusal(self, cells: Sequence[str]) -> str:
        """The reason why a row says neither yes nor no to a label; "" for none."""
        for index, name in zip(self.indices, self.names, strict=True):
            if _word(cells, index) not in YES | NO | MINUS:
                return f"neither 0 nor 1 in the column {name!r}"
        return ""

    def place(self) -> str:
        """The columns in the user's words."""
        return f"the columns {self.names[0]!r} to {self.names[-1]!r}"


def named_columns(header: Sequence[str], target: str) -> LabelColumns:
    """The columns that a target such as "ant,bee,cat" names; none where it is no list.

    Raises UnknownNameError where there is no such column.
    """
    parts = [part.strip() for part in target.split(",")]
    if target in header or len(parts) < 2:
        return LabelColumns()
    for part in parts:
        if part not in header:
            raise unknown_name("column", part, header)
    return LabelColumns(tuple(map(list(header).index, parts)), tuple(parts))


def yes_or_no_columns(
    header: Sequence[str], rows: Sequence[Sequence[str]], columns: Sequence[int]
) -> LabelColumns:
    """Those of the columns that say yes or no in every row that is filled; none below two."""
    chosen = tuple(column for column in columns if _says_yes_or_no(rows, column))
    if len(chosen) < 2:
        return LabelColumns()
    return LabelColumns(chosen, tuple(header[column] for column in chosen))


def prefixed_columns(header: Sequence[str], rows: Sequence[Sequence[str]]) -> LabelColumns:
    """Columns such as label_ant and label_bee, or y_0 and y_1, that all say yes or no."""
    columns = [i for i, name in enumerate(header) if _prefix(name) in LABEL_WORDS]
    chosen = yes_or_no_columns(header, rows, columns)
    return chosen if len(chosen.indices) == len(columns) else LabelColumns()


def labels_of(codes: Sequence[int], texts: Sequence[str]) -> Labels:
    """Labels from the texts of the rows; where each row has exactly one, its class."""
    members = tuple(tuple(text.split(_MARK)) if text else () for text in texts)
    array = np.array(codes, dtype=np.int64)
    if all(len(labels) == 1 for labels in members):
        return Labels(array, tuple(labels[0] for labels in members))
    shown = tuple(" + ".join(labels) or "(none)" for labels in members)
    return Labels(array, shown, members=members)


def _prefix(name: str) -> str:
    word, mark, rest = name.strip().lower().partition("_")
    return word if mark and rest else ""


def _says_yes_or_no(rows: Sequence[Sequence[str]], column: int) -> bool:
    cells = [row[column] for row in rows if len(row) > column]
    words = {cell.strip().lower() for cell in cells if not is_missing(cell)}
    return bool(words) and (words <= YES | NO or words <= YES | MINUS)


def _word(cells: Sequence[str], column: int) -> str:
    return cells[column].strip().lower()
