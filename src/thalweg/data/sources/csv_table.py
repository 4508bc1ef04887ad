"""A table with a target column: classes or values to predict from the others."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np

from thalweg.data.caveat import Caveat
from thalweg.data.samples import (
    Labels,
    Quarantined,
    RowNames,
    Samples,
)
from thalweg.data.sources.find_target import find_target
from thalweg.data.sources.group_column import group_column, group_of
from thalweg.data.sources.label_columns import LabelColumns, labels_of
from thalweg.data.sources.split_column import SplitColumn, split_column
from thalweg.data.sources.table import Table, TableRow
from thalweg.data.sources.table_file import table_file
from thalweg.data.sources.target_default import column_cells
from thalweg.data.sources.target_numbers import TargetNumbers, target_numbers
from thalweg.data.sources.text_cells import join_texts
from thalweg.data.tables.cells import is_missing, is_number
from thalweg.data.tables.column import Column, category_text
from thalweg.data.tables.infer_column import column_notes, infer_column, is_one_text
from thalweg.data.tables.missing_codes import missing_code_note
from thalweg.data.tables.text_columns import is_text_column, names_of_first_row
from thalweg.data.text.documents import DocumentNames, Documents
from thalweg.errors import DataError
from thalweg.wording import some

ROWS_PER_CHUNK = 8192
HEADER_ROWS = 400  # to tell names of columns from a first row of data
ROW_NUMBERS = frozenset(
    {
        *("", "0", "id", "ids", "index", "row", "row_id", "image_id", "sample_id"),
        *("#", "no", "no.", "nr", "number", "row_number", "serial", "serial_number", "s.no", "sno"),
        "__index_level_0__",  # of a data frame that pandas wrote
    }
)
_ID = re.compile(r".*(?:[a-z](?:ID|Id)|[ _.-](?:id|ID|Id))")  # PassengerId, customer_id


class _Columns(NamedTuple):
    features: tuple[tuple[int, Column], ...]  # by their place in a row
    target: int
    split: SplitColumn
    names: tuple[str, ...]
    has_header: bool
    labels: LabelColumns = LabelColumns()  # where each label has a column of its own
    group: int = -1  # of rows that stay together
    numbers: TargetNumbers = TargetNumbers()
    texts: tuple[int, ...] = ()  # columns of texts, which become words


@dataclass(slots=True)
class _Table:
    """The rows read so far."""

    vectors: list[np.ndarray] = field(default_factory=list)
    documents: list[str] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)
    codes: list[int] = field(default_factory=list)
    splits: list[int] = field(default_factory=list)
    groups: list[str] = field(default_factory=list)
    texts: dict[str, int] = field(default_factory=dict)
    quarantined: list[Quarantined] = field(default_factory=list)
    words: dict[int, int] = field(default_factory=dict)  # column → number of unreadable cells
    categories: dict[int, dict[str, int]] = field(default_factory=dict)  # column → text → code


def csv_table(path: Path, *, target: str = "", group: str = "") -> Samples | None:
    """The columns of a table as float32 vectors, missing cells as NaN. None for no table.

    Where there are columns of texts, the samples are documents with these vectors beside them.

    The target is the column `target`, else the one named target, label, class, category, species
    or y, else the last if it can be one. Categories are numbered in the order of their texts.
    Rows without a target, or of another width than the header, are quarantined.
    """
    table = table_file(path)
    if table is None:
        return None
    columns, notes = _columns(table, target, group=group)
    contents = _Table()
    for rows in _chunks(table, skip=int(columns.has_header)):
        _add_rows(rows, columns, contents=contents, table=table)
    if not contents.lines:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in contents.quarantined[:3])
        raise DataError(f"{path} has no row that can be used", seen=reasons or "no rows")
    for place, count in contents.words.items():
        kind = dict(columns.features)[place].kind
        noun = {"flag": "neither yes nor no", "date": "no dates"}.get(kind, "no numbers")
        notes.append(f"{count:,} cells of {columns.names[place]!r} are {noun}: missing")
    described = [
        column.with_texts(tuple(contents.categories.get(place, ())))
        for place, column in columns.features
    ]
    vectors = np.concatenate(contents.vectors)
    inputs: np.ndarray | Documents = vectors
    names: Sequence[str] = RowNames(np.array(contents.lines, dtype=np.int64))
    if columns.texts:
        text_names = tuple(columns.names[place] for place in columns.texts)
        inputs = Documents(contents.documents, vectors, text_names)
        names = DocumentNames(names, contents.documents)
    return Samples(
        inputs=inputs,
        names=names,
        labels=_labels(contents, columns),
        splits=np.array(contents.splits, dtype=np.int8),
        label_place=(
            columns.labels.place()
            if columns.labels.indices
            else f"column {columns.names[columns.target]!r}"
        ),
        groups=tuple(contents.groups) if columns.group >= 0 else (),
        group_place=f"column {columns.names[columns.group]!r}",
        quarantined=tuple(contents.quarantined),
        notes=tuple(notes),
        features=tuple(name for column in described for name in column.features),
        columns=tuple(described),
    )


def _labels(contents: _Table, columns: _Columns) -> Labels:
    if columns.labels.indices:
        return labels_of(contents.codes, tuple(contents.texts))
    codes = np.array(contents.codes, dtype=np.int64)
    return Labels(codes, tuple(contents.texts), may_be_numbers=True)


def _columns(table: Table, target_name: str, *, group: str = "") -> tuple[_Columns, list[str]]:
    """The roles of the columns, and notes. DataError if no features are left."""
    notes = list(table.notes)
    names, has_header = _header(table, notes)
    sample = [row.cells for row in islice(table.rows(), int(has_header), ROWS_PER_CHUNK)]
    splits = split_column(names, sample)
    notes += splits.notes()
    target, labels, choice = find_target(table, names, target_name, split=splits.index, rows=sample)
    notes += choice
    _check_one_target(table, [names[index] for index in labels.indices or (target,)])
    group_place = group_column(names, sample, group)
    roles = {splits.index, target, group_place, *labels.indices}
    others = [column for column in range(len(names)) if column not in roles]
    row_numbers = [c for c in others if has_header and _numbers_rows(names[c], sample, c)]
    if row_numbers:
        others = [column for column in others if column not in row_numbers]
        names_of = some([repr(names[column]) for column in row_numbers])
        notes.append(f"columns that only number the rows are left out: {names_of}")
    cells = {column: column_cells(sample, column) for column in others}
    if constant := [column for column in others if is_one_text(cells[column])]:
        others = [column for column in others if column not in constant]
        names_of = some([repr(names[column]) for column in constant])
        notes.append(f"columns of one text in all rows are left out: {names_of}")
    if empty := [column for column in others if all(map(is_missing, cells[column]))]:
        others = [column for column in others if column not in empty]
        names_of = some([repr(names[column]) for column in empty])
        notes.append(f"columns without a value are left out: {names_of}")
    commas = table.has_decimal_commas
    features, texts, kinds = _features(names, {column: cells[column] for column in others}, commas)
    notes += kinds
    if not (features or texts):
        raise DataError(
            f"{table.path} has no column to learn from beside the target {names[target]!r}",
            seen=f"columns: {', '.join(map(repr, names))}",
            fix="for images, call the column of their files 'path'; --task sequence writes the "
            "target from a text, token by token",
        )
    numbers = TargetNumbers()
    if not labels.indices:
        numbers = target_numbers(column_cells(sample, target), has_decimal_commas=commas)
        notes += numbers.notes(names[target])
    places = features, target, splits, names, has_header, labels, group_place, numbers, texts
    return _Columns(*places), notes


def _header(table: Table, notes: list[str]) -> tuple[tuple[str, ...], bool]:
    """The names of the columns, and whether the first row holds them; else they are numbers."""
    first = table.first
    numbers = tuple(str(place) for place in range(1, len(first) + 1))
    if not all(is_number(cell) for cell in first):
        rows = [row.cells for row in islice(table.rows(), 1, HEADER_ROWS)]
        numbers = names_of_first_row(first, rows)
    if not numbers:
        return first, True
    notes.append(f"{table.path.name} has no header: its columns are numbered")
    return numbers, False


def _features(
    names: Sequence[str], cells: Mapping[int, Sequence[str]], commas: bool
) -> tuple[tuple[tuple[int, Column], ...], tuple[int, ...], list[str]]:
    """The columns that become numbers, those that become words, and notes.

    Where no column has numbers or texts, any free text is one, such as names or single words.
    """
    texts = [place for place, column in cells.items() if is_text_column(names[place], column)]
    inferred = {
        place: infer_column(names[place], column, has_decimal_commas=commas)
        for place, column in cells.items()
        if place not in texts
    }
    features = tuple((place, column) for place, column in inferred.items() if column is not None)
    left_out = [place for place, column in inferred.items() if column is None]
    if not (features or texts):
        texts, left_out = left_out, []
    notes: list[str] = []
    if texts:
        notes.append(f"columns of texts: {some([repr(names[place]) for place in texts])}")
    if left_out:
        text = f"columns of free text are left out: {some([repr(names[c]) for c in left_out])}"
        notes.append(Caveat(text, "Columns were left out"))
    notes += column_notes([column for _, column in features])
    codes = (missing_code_note(column, cells[place]) for place, column in features)
    notes += [note for note in codes if note]
    features = tuple((place, column.with_origin(cells[place])) for place, column in features)
    return features, tuple(texts), notes


def _check_one_target(table: Table, targets: Sequence[str]) -> None:
    """Raise DataError where several columns have the name of the target."""
    if twice := [name for name in targets if name in table.repeated]:
        raise DataError(
            f"several columns of {table.path} are called {twice[0]!r}, which is the target",
            seen=f"columns: {some([repr(name) for name in table.first])}",
            fix="rename all but the one to predict, or leave them out; --target NAME takes another",
        )


def _numbers_rows(name: str, rows: Sequence[list[str]], column: int) -> bool:
    """Return whether a column named id, or not named, holds a different whole number in each row.

    It tells a row from others and nothing about them: a net would learn their order in the file.
    """
    name = name.strip()
    if name.lower().removeprefix("unnamed: ") not in ROW_NUMBERS and not _ID.fullmatch(name):
        return False
    cells = [cell.strip() for cell in column_cells(rows, column)]
    return len(set(cells)) == len(cells) > 1 and all(cell.isdecimal() for cell in cells)


def _chunks(table: Table, *, skip: int) -> Iterator[list[TableRow]]:
    rows = islice(table.rows(), skip, None)
    while chunk := list(islice(rows, ROWS_PER_CHUNK)):
        yield chunk


def _add_rows(rows: list[TableRow], columns: _Columns, *, contents: _Table, table: Table) -> None:
    width = len(columns.names)
    good = []
    for row in rows:
        if len(row.cells) != width:
            reason = f"{len(row.cells)} cells where the header has {width}"
        elif columns.labels.indices and (refusal := columns.labels.refusal(row.cells)):
            reason = refusal
        elif is_missing(row.cells[columns.target]):
            reason = "no target"
        elif refusal := columns.numbers.refusal(row.cells[columns.target]):
            reason = refusal
        else:
            good.append(row)
            continue
        contents.quarantined.append(Quarantined(f"row {row.line}", reason))
    for row in good:
        text = columns.numbers.text(row.cells[columns.target])
        if columns.labels.indices:
            text = columns.labels.text(row.cells)
        contents.lines.append(row.line)
        contents.codes.append(contents.texts.setdefault(text, len(contents.texts)))
        contents.splits.append(columns.split.of(row, table))
        contents.groups.append(group_of(row.cells, columns.group))
    if columns.texts:
        texts = (join_texts([row.cells[place] for place in columns.texts]) for row in good)
        contents.documents.extend(texts)
    if good:
        parts = [
            _numbers([row.cells[place] for row in good], place, column, contents=contents)
            for place, column in columns.features
        ]
        parts.append(np.zeros((len(good), 0)))
        contents.vectors.append(np.concatenate(parts, axis=1).astype(np.float32))


def _numbers(cells: Sequence[str], place: int, column: Column, *, contents: _Table) -> np.ndarray:
    """The numbers of a column's cells, and NaN; a category's codes, from 1."""
    if column.kind == "category":
        codes = contents.categories.setdefault(place, {})
        code_of = {
            cell: codes.setdefault(category_text(cell), len(codes) + 1)
            for cell in dict.fromkeys(cells)
        }
        numbers = [code_of[cell] for cell in cells]
        return np.array(numbers, dtype=np.float64).reshape(-1, 1)
    values = column.numbers(cells)
    if not np.isfinite(values).all():
        unreadable = sum(not column.is_readable(cell) for cell in cells)
        if unreadable:
            contents.words[place] = contents.words.get(place, 0) + unreadable
    return values
