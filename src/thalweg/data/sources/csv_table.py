"""A CSV of numbers with a target column: classes or values to predict from the others."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np

from thalweg.data.samples import (
    Labels,
    Quarantined,
    RowNames,
    Samples,
)
from thalweg.data.sources.csv_file import (
    SPLIT_WORDS,
    CsvFile,
    CsvRow,
    cell_number,
    column_called,
    csv_file,
    is_missing,
    split_of,
    target_column,
)
from thalweg.errors import DataError
from thalweg.wording import some

ROWS_PER_CHUNK = 8192
FREE_TEXT_ROWS = 20  # fewer may all differ by chance


class _Columns(NamedTuple):
    features: tuple[int, ...]
    target: int
    split: int  # −1: none
    names: tuple[str, ...]
    has_header: bool


@dataclass(slots=True)
class _Table:
    """The rows read so far."""

    vectors: list[np.ndarray] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)
    codes: list[int] = field(default_factory=list)
    splits: list[int] = field(default_factory=list)
    texts: dict[str, int] = field(default_factory=dict)
    quarantined: list[Quarantined] = field(default_factory=list)
    words: dict[int, int] = field(default_factory=dict)  # column → number of cells with words


def csv_table(path: Path, *, target: str = "") -> Samples | None:
    """The numeric columns of a CSV as float32 vectors, missing cells as NaN. None for no CSV.

    The target is the column `target`, else the one named target, label, class, category, species
    or y, else the last.
    Rows without a target, or of another width than the header, are quarantined.
    """
    table = csv_file(path)
    if table is None:
        return None
    columns, notes = _columns(table, target)
    contents = _Table()
    for rows in _chunks(table, skip=int(columns.has_header)):
        _add_rows(rows, columns, contents=contents, path=path)
    if not contents.lines:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in contents.quarantined[:3])
        raise DataError(f"{path} has no row that can be used", seen=reasons or "no rows")
    for column, count in contents.words.items():
        notes.append(f"{count:,} cells of {columns.names[column]!r} are no numbers: missing")
    return Samples(
        inputs=np.concatenate(contents.vectors),
        names=RowNames(np.array(contents.lines, dtype=np.int64)),
        labels=Labels(
            np.array(contents.codes, dtype=np.int64), tuple(contents.texts), may_be_numbers=True
        ),
        splits=np.array(contents.splits, dtype=np.int8),
        label_place=f"column {columns.names[columns.target]!r}",
        quarantined=tuple(contents.quarantined),
        notes=tuple(notes),
        features=tuple(columns.names[column] for column in columns.features),
    )


def _columns(table: CsvFile, target_name: str) -> tuple[_Columns, list[str]]:
    """The roles of the columns, and notes. DataError if no features are left."""
    notes: list[str] = []
    names, has_header = table.first, True
    if all(_is_number(cell) for cell in names):
        names, has_header = tuple(f"{i + 1}" for i in range(len(names))), False
        notes.append(f"{table.path.name} has no header: its columns are numbered")
    split = column_called(names, SPLIT_WORDS)
    sample = [row.cells for row in islice(table.rows(), int(has_header), ROWS_PER_CHUNK)]
    target = target_column(names, target_name)
    if target < 0:
        target = max(column for column in range(len(names)) if column != split or len(names) == 1)
        _require_target(table, names, target, sample=sample)
        notes.append(f"target: the last column, {names[target]!r}; --target NAME takes another")
    others = [column for column in range(len(names)) if column not in {split, target}]
    features = tuple(column for column in others if _is_numeric(sample, column))
    if left_out := [repr(names[column]) for column in others if column not in features]:
        notes.append(f"columns of words are left out: {some(left_out)}")
    if not features:
        raise DataError(
            f"{table.path} has no column of numbers beside the target {names[target]!r}",
            seen=f"columns: {', '.join(map(repr, names))}",
            fix="for images, call the column of their files 'path'",
        )
    return _Columns(features, target, split, names, has_header), notes


def _require_target(
    table: CsvFile, names: Sequence[str], column: int, *, sample: Sequence[list[str]]
) -> None:
    """Raise DataError if the last column is free text, which cannot be a target."""
    cells = [row[column].strip() for row in sample if len(row) > column]
    distinct = set(cells)
    if len(cells) < FREE_TEXT_ROWS or 2 * len(distinct) <= len(cells):
        return
    if sum(map(_is_number, cells)) * 2 > len(cells):
        return
    candidates = [name for other, name in enumerate(names) if _is_numeric(sample, other)]
    raise DataError(
        f"{table.path} does not name the column to predict",
        seen=f"the last column, {names[column]!r}, is free text: {len(distinct):,} different "
        f"entries in {len(cells):,} rows",
        fix=f"--target NAME, such as {some([repr(name) for name in candidates])}"
        if candidates
        else "--target NAME",
    )


def _is_numeric(rows: Sequence[list[str]], column: int) -> bool:
    """Return whether most cells that are not missing hold a number."""
    cells = [row[column] for row in rows if len(row) > column and not is_missing(row[column])]
    return sum(map(_is_number, cells)) * 2 > len(cells)


def _chunks(table: CsvFile, *, skip: int) -> Iterator[list[CsvRow]]:
    rows = islice(table.rows(), skip, None)
    while chunk := list(islice(rows, ROWS_PER_CHUNK)):
        yield chunk


def _add_rows(rows: list[CsvRow], columns: _Columns, *, contents: _Table, path: Path) -> None:
    width = len(columns.names)
    good = []
    for row in rows:
        if len(row.cells) != width:
            reason = f"{len(row.cells)} cells where the header has {width}"
        elif is_missing(row.cells[columns.target]):
            reason = "no target"
        else:
            good.append(row)
            continue
        contents.quarantined.append(Quarantined(f"row {row.line}", reason))
    for row in good:
        text = row.cells[columns.target].strip()
        contents.lines.append(row.line)
        contents.codes.append(contents.texts.setdefault(text, len(contents.texts)))
        contents.splits.append(split_of(row, columns.split, path))
    if good:
        features = [_numbers(good, column, contents.words) for column in columns.features]
        contents.vectors.append(np.stack(features, axis=1).astype(np.float32))


def _numbers(rows: Sequence[CsvRow], column: int, words: dict[int, int]) -> np.ndarray:
    """A column as float64; NaN for a cell without a finite number."""
    cells = [row.cells[column] for row in rows]
    try:
        values = np.array(cells, dtype=np.float64)  # fast if every cell is a plain number
    except ValueError:
        values = np.array([cell_number(cell) for cell in cells])
        words_here = sum(not is_missing(cell) and not _is_number(cell) for cell in cells)
        if words_here:
            words[column] = words.get(column, 0) + words_here
    return np.where(np.isfinite(values), values, np.nan)


def _is_number(cell: str) -> bool:
    return cell_number(cell) == cell_number(cell)  # NaN is no number
