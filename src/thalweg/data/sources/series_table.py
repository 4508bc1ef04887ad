"""A table of series: a column of time stamps, equally spaced, and the values at these times.

Three forms: one series; wide, a column a series; long, with columns that name the series of a row.
Without a word of the user only what is beyond doubt is a series: see `series_roles`.
"""

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np

from thalweg.data.samples import UNSPLIT, Samples
from thalweg.data.series.divide_series import SeriesTable
from thalweg.data.series.options import NO_TIME, SeriesOptions
from thalweg.data.series.time_grid import TimeGrid, grid_of
from thalweg.data.series.time_stamps import is_ambiguous, stamp_forms, stamps_in
from thalweg.data.series.windows import OneSeries, Roles
from thalweg.data.sources.series_roles import SERIES_SEPARATOR, joined_cells, series_roles
from thalweg.data.sources.table import Table, TableRow
from thalweg.data.sources.table_file import table_file
from thalweg.data.tables.cells import is_missing
from thalweg.data.tables.infer_column import infer_column
from thalweg.errors import DataError
from thalweg.wording import count, some

AUTOMATIC = SeriesOptions()
SAMPLE_ROWS = 4096
TO_TABLE = "--data.time none reads it as a table"


class _Cells(NamedTuple):
    """The columns of a table of series as text, row by row."""

    lines: list[int]
    stamps: list[str]
    names: list[str]  # of the series of each row; () where there is one, or wide
    values: list[list[str]]  # a list for each column of values


def series_table(
    path: Path, *, target: str = "", group: str = "", options: SeriesOptions = AUTOMATIC
) -> Samples | None:
    """The series of a table; None for a table that is none.

    Rows are sorted by time and put on the grid of the interval; what is missing there is NaN.
    Raises DataError where the user asks for a forecast of what is no series, or two rows of a
    series have the same time.
    """
    if options.time == NO_TIME or (group and not options.is_asked):
        return None
    table = table_file(path)
    if table is None:
        if options.is_asked:
            raise DataError(
                f"{path} is no table, so it holds no series",
                seen=f"data.time={options.time or '(chosen)'}",
                fix="a CSV, Parquet or Arrow file with a column of time stamps",
            )
        return None
    sample = [row.cells for row in islice(table.rows(), 1, 1 + SAMPLE_ROWS)]
    roles = series_roles(table, sample, target=target, options=options)
    if roles is None:
        return None
    cells, notes = _read_cells(table, roles)
    grid = _grid(table, cells, roles, is_asked=options.is_asked)
    if grid is None:
        return None
    series, further = _series(table, cells, roles, grid=grid)
    inputs = SeriesTable(path=path, grid=grid, roles=roles, series=tuple(series))
    return Samples(
        inputs=inputs,
        names=[one.name for one in series],
        labels=np.zeros((len(series), 1), dtype=np.float32),
        splits=np.full(len(series), UNSPLIT, dtype=np.int8),
        label_place=f"the series of {path.name}",
        notes=(*table.notes, *_describe(inputs, table), *notes, *further),
    )


def read_series(path: Path, roles: Roles, grid: TimeGrid) -> list[OneSeries]:
    """The series of another file, with the columns and the grid of the one trained on.

    Raises DataError where the columns are absent, or stamps are not of the grid.
    """
    table = table_file(path)
    if table is None:
        raise DataError(
            f"{path} is no table that can be read",
            seen="the model forecasts series",
            fix=f"a CSV, Parquet or Arrow file with the columns {_names(roles)}",
        )
    columns = [*roles.time, *roles.series, *roles.values]
    if missing := [name for name in columns if name not in table.first]:
        raise DataError(
            f"{path} lacks columns of the series",
            seen=f"no column {some([repr(name) for name in missing])}",
            fix=f"a file with the columns {_names(roles)}",
        )
    cells, _ = _read_cells(table, roles)
    series, _ = _series(table, cells, roles, grid=grid)
    return series


def _names(roles: Roles) -> str:
    return some([repr(name) for name in (*roles.time, *roles.series, *roles.values)], 6)


def _read_cells(table: Table, roles: Roles) -> tuple[_Cells, list[str]]:
    """The cells of the columns that matter, without rows of another width or without a time."""
    places = {name: table.first.index(name) for part in roles for name in part}
    cells = _Cells([], [], [], [[] for _ in roles.values])
    short = timeless = 0
    for row in _rows(table):
        if len(row.cells) < len(table.first):
            short += 1
            continue
        stamp = joined_cells([row.cells[places[name]] for name in roles.time], roles.time)
        if is_missing(stamp):
            timeless += 1
            continue
        cells.lines.append(row.line)
        cells.stamps.append(stamp)
        own = [row.cells[places[name]].strip() for name in roles.series]
        cells.names.append(SERIES_SEPARATOR.join(own))
        for column, name in zip(cells.values, roles.values, strict=True):
            column.append(row.cells[places[name]])
    notes = [f"{count(short, 'row')} with too few cells are left out"] * bool(short)
    notes += [f"{count(timeless, 'row')} without a time are left out"] * bool(timeless)
    return cells, notes


def _rows(table: Table) -> Iterator[TableRow]:
    yield from islice(table.rows(), 1, None)


def _grid(table: Table, cells: _Cells, roles: Roles, *, is_asked: bool) -> TimeGrid | None:
    """The grid of all stamps; where they have none, DataError if the user asks for a forecast."""
    forms = list(stamp_forms(cells.stamps))
    groups = cells.names if roles.series else ()
    for form in forms:
        if grid := grid_of(stamps_in(cells.stamps, form), form, groups=groups):
            return grid
    if not is_asked:
        return None
    names = some([repr(name) for name in roles.time])
    if not forms:
        raise _unreadable(table, cells, names)
    raise DataError(
        f"the time stamps of {names} in {table.path} are not equally spaced",
        seen=_steps_in_words(cells, forms[0], groups),
        fix="one row for each interval, such as a sum or mean by day (pandas: df.resample('D')); "
        "--data.series NAME where a column names the series of each row",
    )


def _unreadable(table: Table, cells: _Cells, names: str) -> DataError:
    first = next(iter(stamp_forms(cells.stamps[:1])), "")
    stamps = stamps_in(cells.stamps, first) if first else np.array([])
    wrong = np.flatnonzero(np.isnan(stamps)).tolist() if first else [0]
    place = wrong[0] if wrong else 0
    return DataError(
        f"{names} in {table.path} holds no time stamps of one form",
        seen=f"{cells.stamps[place]!r} in row {cells.lines[place]}"
        + (f", {cells.stamps[0]!r} in row {cells.lines[0]}" if place else ""),
        fix="dates such as 2024-01-31, months such as 2024-01, years, or whole numbers, all "
        "written alike",
    )


def _steps_in_words(cells: _Cells, form: str, groups: Sequence[str]) -> str:
    stamps = stamps_in(cells.stamps, form)
    if len(groups):
        stamps = stamps[np.asarray(groups) == groups[0]]
    steps = np.diff(np.unique(stamps))
    if not len(steps):
        return f"{count(len(cells.stamps), 'row')}, all of one time"
    if form == "numbers":
        return f"steps from {steps.min():g} to {steps.max():g}, {np.median(steps):g} in the middle"
    seconds = np.sort(steps.astype(np.int64)) / 1e6
    low, middle, high = (_duration(float(seconds[p])) for p in (0, len(seconds) // 2, -1))
    return f"intervals from {low} to {high}, {middle} in the middle"


def _duration(seconds: float) -> str:
    for size, unit in ((86_400, "days"), (3_600, "hours"), (60, "minutes")):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} seconds"


def _series(
    table: Table, cells: _Cells, roles: Roles, *, grid: TimeGrid
) -> tuple[list[OneSeries], list[str]]:
    """The series on the grid, and notes on order, copies and cells that are no numbers."""
    positions = _positions(table, cells, grid)
    pairs = zip(roles.values, cells.values, strict=True)
    read = [_numbers(table, name, own) for name, own in pairs]
    columns, notes = [values for values, _ in read], [note for _, own in read for note in own]
    codes, names = _codes(cells.names)
    series: list[OneSeries] = []
    moved = copies = 0
    order = np.lexsort((positions, codes))
    bounds = np.flatnonzero(np.diff(codes[order])) + 1
    for rows in np.split(order, bounds):
        own = names[codes[rows[0]]]
        moved += _count_moved(positions[np.sort(rows)])
        copies += int((np.diff(positions[rows]) == 0).sum())
        for column, numbers in zip(roles.values, columns, strict=True):
            title = _title(own, column, is_long=bool(roles.series), num=len(roles.values))
            _check_copies(table, cells, positions, values=numbers, rows=rows)
            values = _on_grid(positions[rows], numbers[rows])
            if (one := _trimmed(title, int(positions[rows[0]]), values)) is not None:
                series.append(one)
    if not series:
        raise DataError(f"{table.path} has no value that can be used", seen=_names(roles))
    if moved:
        notes.append(f"{count(moved, 'row')} stood after a later time: sorted by time")
    if copies:
        notes.append(f"{count(copies, 'row')} repeat another of the same time: left out")
    return series, notes


def _positions(table: Table, cells: _Cells, grid: TimeGrid) -> np.ndarray:
    """The grid's position of each row. Raises DataError for a stamp of another form."""
    stamps = stamps_in(cells.stamps, grid.form)
    if np.isnan(stamps).any():
        place = int(np.flatnonzero(np.isnan(stamps))[0])
        raise DataError(
            f"{table.path} has a time stamp of another form",
            seen=f"{cells.stamps[place]!r} in row {cells.lines[place]}",
            fix=f"stamps such as {grid.text(0)}",
        )
    return np.round(grid.positions(stamps)).astype(np.int64)


def _count_moved(positions: np.ndarray) -> int:
    """The rows before which a later time stands; 0 where the file begins with the latest."""
    steps = np.diff(positions)
    return 0 if (steps <= 0).all() else int((steps < 0).sum())


def _codes(names: Sequence[str]) -> tuple[np.ndarray, list[str]]:
    """The number of each row's series, in the order of their first rows, and their names."""
    numbers: dict[str, int] = {}
    codes = np.array([numbers.setdefault(name, len(numbers)) for name in names], dtype=np.int64)
    return codes, list(numbers)


def _title(own: str, column: str, *, is_long: bool, num: int) -> str:
    if not is_long:
        return column
    return own if num == 1 else f"{own} {column}"


def _numbers(table: Table, name: str, cells: Sequence[str]) -> tuple[np.ndarray, list[str]]:
    """The numbers of a column, float64, and notes. Raises DataError where it holds none."""
    column = infer_column(name, cells, has_decimal_commas=table.has_decimal_commas)
    if column is None or column.kind != "number":
        raise DataError(
            f"the column {name!r} of {table.path} holds no numbers to forecast",
            seen=some([repr(cell[:20]) for cell in dict.fromkeys(cells)]),
            fix="--target NAME, a column of numbers",
        )
    notes = [f"the numbers of {name!r} are read like {column.form}"] * bool(column.form)
    values = column.numbers(cells)[:, 0].astype(np.float64)
    unreadable = sum(not column.is_readable(cell) for cell in cells)
    if unreadable:
        notes.append(f"{count(unreadable, 'cell')} of {name!r} are no numbers: missing")
    return values, notes


def _check_copies(
    table: Table, cells: _Cells, positions: np.ndarray, *, values: np.ndarray, rows: np.ndarray
) -> None:
    """Raise DataError for two values of the same time."""
    for place in (np.flatnonzero(np.diff(positions[rows]) == 0) + 1).tolist():
        first, second = values[rows[place - 1]], values[rows[place]]
        if first == second or np.isnan(first) or np.isnan(second):
            continue
        lines = sorted((cells.lines[rows[place - 1]], cells.lines[rows[place]]))
        raise DataError(
            f"{table.path} has two values for the same time",
            seen=f"{cells.stamps[rows[place]]!r} in rows {lines[0]} and {lines[1]}: "
            f"{first:g} and {second:g}",
            fix="one row for each time: a sum or mean; or --data.series NAME, the column that "
            f"names the series of each row; {TO_TABLE}",
        )


def _on_grid(positions: np.ndarray, values: np.ndarray) -> np.ndarray:
    """The values at consecutive positions, NaN where none is."""
    whole = np.full(int(positions[-1] - positions[0]) + 1, np.nan)
    finite = np.isfinite(values)
    whole[positions[finite] - positions[0]] = values[finite]
    return whole


def _trimmed(name: str, begin: int, values: np.ndarray) -> OneSeries | None:
    """The series without missing values at its ends; None where all are missing."""
    places = np.flatnonzero(np.isfinite(values))
    if not len(places):
        return None
    first, last = int(places[0]), int(places[-1])
    return OneSeries(name=name, begin=begin + first, values=values[first : last + 1])


def _describe(inputs: SeriesTable, table: Table) -> Iterator[str]:
    """Say what was understood, and how to say otherwise."""
    grid, series, roles = inputs.grid, inputs.series, inputs.roles
    first, last = min(one.begin for one in series), max(one.end for one in series) - 1
    noun = grid.interval
    names = some([repr(one.name) for one in series])
    number = f"{count(len(series), 'series', 'series')}" if len(series) > 1 else "a series"
    time = some([repr(name) for name in roles.time])
    yield (
        f"{number} to forecast: {names} by {time}, a value each {noun} from {grid.text(first)} to "
        f"{grid.text(last)}; {TO_TABLE}"
    )
    left = [name for name in table.first if not any(name in part for part in roles)]
    if left:
        yield f"columns that are not forecast are left out: {some([repr(n) for n in left])}"
    if is_ambiguous(grid.form):
        yield f"the dates are read as {grid.form}: so they are equally spaced"
