"""The target of a table: the column that the user names, columns of labels, or the default."""

from collections.abc import Sequence

from thalweg.data.sources.csv_file import target_column
from thalweg.data.sources.label_columns import (
    LabelColumns,
    named_columns,
    prefixed_columns,
    yes_or_no_columns,
)
from thalweg.data.sources.table import Table
from thalweg.data.sources.target_default import column_cells, default_target
from thalweg.data.tables.text_columns import is_text_column

LEAST_LABELS = 3  # columns of yes and no beside a text that are its labels: toxic, insult, threat


def find_target(
    table: Table, names: Sequence[str], target: str, *, split: int, rows: Sequence[Sequence[str]]
) -> tuple[int, LabelColumns, list[str]]:
    """The target's column, or the columns of labels of which it is the first; and notes.

    Raises UnknownNameError for a column that is not there, DataError where none is sure.
    """
    labels = named_columns(names, target)
    place = labels.indices[0] if labels.indices else target_column(names, target)
    if place >= 0:
        is_sure = bool(target) or place == len(names) - 1 or place == 0
        by_name = f"target: the column {names[place]!r}, by its name; --target NAME takes another"
        return place, labels, [] if is_sure else [by_name]
    labels = prefixed_columns(names, rows)
    if not labels.indices:
        labels = _labels_beside_text(names, rows, split)
    if labels.indices:
        return labels.indices[0], labels, []
    place = default_target(table, names, split=split, sample=rows)
    is_last = place == max(column for column in range(len(names)) if column != split or place == 0)
    which = f"the last column, {names[place]!r}" if is_last else f"the column {names[place]!r}"
    return place, labels, [f"target: {which}; --target NAME takes another"]


def _labels_beside_text(
    names: Sequence[str], rows: Sequence[Sequence[str]], split: int
) -> LabelColumns:
    """Columns of yes and no, three or more, where the others are texts and identifiers."""
    columns = [column for column in range(len(names)) if column != split]
    cells = {column: column_cells(rows, column) for column in columns}
    texts = [column for column in columns if is_text_column(names[column], cells[column])]
    labels = yes_or_no_columns(names, rows, columns)
    others = [c for c in columns if c not in texts and c not in labels.indices]
    are_ids = all(len(set(cells[c])) == len(cells[c]) for c in others)
    return labels if texts and are_ids and len(labels.indices) >= LEAST_LABELS else LabelColumns()
