"""Tell the columns of a table of series: time, the names of series, values."""

from collections.abc import Iterator, Sequence
from itertools import combinations, pairwise

from thalweg.data.series.options import SeriesOptions
from thalweg.data.series.time_grid import LEAST_STAMPS, find_grid
from thalweg.data.series.time_stamps import NUMBERS, stamp_forms
from thalweg.data.series.windows import Roles
from thalweg.data.sources.table import Table
from thalweg.data.tables.cells import is_missing, is_number
from thalweg.data.tables.written_numbers import number_form
from thalweg.errors import DataError
from thalweg.registry import unknown_name
from thalweg.wording import some

# Names of columns of time, in the languages that tables of series come in.
TIME_NAMES = (
    *("ds", "date", "datetime", "timestamp", "time", "month", "year", "quarter", "week", "day"),
    *("date_time", "period", "years", "months", "days", "hour", "datum", "zeit", "monat", "jahr"),
    *("tag", "woche", "quartal", "fecha", "mes", "año", "mois", "année", "data", "ano", "yr"),
    *("order_date", "observation_date", "utc_timestamp", "zeitstempel", "t", "step"),
)
SERIES_NAMES = (
    *("unique_id", "series", "series_id", "series_name", "item_id", "item", "store", "store_nbr"),
    *("id", "product", "sku", "sensor", "station", "country", "region", "symbol", "ticker", "name"),
)
VALUE_NAMES = ("y", "value", "target", "sales", "demand", "count", "price", "close", "wert")
ROW_NUMBERS = frozenset({"", "index", "rownames", "unnamed: 0", "row", "__index_level_0__"})
PARTS = (("year", "month"), ("year", "quarter"), ("year", "month", "day"), ("date", "time"))
SERIES_SEPARATOR = " · "
LEAST_ROWS = 12  # of what is taken for a series without a word of the user
LEAST_UNIQUE = 0.9  # of its time stamps
MOST_NAMES = 3  # columns that together name a series


class _Columns:
    """A table's first rows by column."""

    def __init__(self, table: Table, rows: Sequence[Sequence[str]]) -> None:
        self.names = table.first
        whole = [row for row in rows if len(row) >= len(self.names)]
        pairs = zip(self.names, zip(*whole, strict=False), strict=False)
        self.cells = {name: list(cells) for name, cells in pairs}
        self.others = [name for name in self.cells if not self._numbers_rows(name)]

    def _numbers_rows(self, name: str) -> bool:
        """Return whether a column without a name of its own counts the rows."""
        cells = self.cells[name]
        if name.strip().lower() not in ROW_NUMBERS or not all(map(is_number, cells)):
            return False
        numbers = [float(cell) for cell in cells]
        return all(b - a == 1 for a, b in pairwise(numbers))

    def has_numbers(self, name: str) -> bool:
        """Return whether most cells that are not missing are numbers."""
        present = [cell for cell in self.cells[name] if not is_missing(cell)]
        plain = sum(map(is_number, present)) * 2 > len(present)
        return plain or bool(number_form(present, has_decimal_commas=True))

    def has_dates(self, name: str) -> bool:
        """Return whether the cells are dates as text, and no mere numbers."""
        present = [cell for cell in self.cells[name] if not is_missing(cell)]
        if not present or sum(map(is_number, present)) * 2 > len(present):
            return False
        return next(iter(stamp_forms(present)), NUMBERS) != NUMBERS

    def stamps(self, time: Sequence[str]) -> list[str]:
        """The stamps of each row, of one column or several."""
        rows = zip(*(self.cells[name] for name in time), strict=True)
        return [joined_cells(cells, time) for cells in rows]

    def series(self, names: Sequence[str]) -> list[str]:
        """The name of each row's series."""
        rows = zip(*(self.cells[name] for name in names), strict=True)
        return [SERIES_SEPARATOR.join(cells) for cells in rows]


def series_roles(
    table: Table, rows: Sequence[Sequence[str]], *, target: str, options: SeriesOptions
) -> Roles | None:
    """The roles of the columns; None for a table that is no series.

    Where the user says nothing, a series has no columns but its time, one value and, at most, one
    column that names it; the times are equally spaced, and hardly any stands there twice.
    Raises DataError or UnknownNameError where the user asks for a forecast of what has no time.
    """
    if not rows:
        return None
    columns = _Columns(table, rows)
    if options.is_asked:
        return _asked_roles(table, columns, target=target, options=options)
    if all(map(is_number, table.first)) or len(rows) < LEAST_ROWS:
        return None
    return next(_obvious_roles(columns, target), None)


def joined_cells(cells: Sequence[str], time: Sequence[str]) -> str:
    """The stamp of a row whose time stands in one column, or in several such as year and month."""
    parts = [cell.strip() for cell in cells]
    if len(parts) == 1:
        return parts[0]
    if any(map(is_missing, parts)):
        return ""
    whole = [part[:-2] if part.endswith(".0") and is_number(part) else part for part in parts]
    if len(whole) == 2 and time[1].lower().startswith(("q", "quar")):
        return f"{whole[0]}Q{whole[1].lstrip('qQ')}"
    if all(part.isdecimal() for part in whole):
        dated = [*whole, "1"][:3] if len(whole) == 2 else whole[:3]
        return "-".join([dated[0], *(part.zfill(2) for part in dated[1:])])
    if len(whole) == 2 and whole[0].isdecimal() and len(whole[0]) == 4:
        return f"{whole[1]} {whole[0]}"
    return " ".join(whole)


def _obvious_roles(columns: _Columns, target: str) -> Iterator[Roles]:
    if len(columns.others) > 5:
        return
    for time in _times(columns):
        left = [name for name in columns.others if name not in time]
        if len(left) == 1:
            names: tuple[str, ...] = ()
        elif len(left) == 2:
            texts = [name for name in left if _names_series(columns, name)]
            names = tuple(texts[:1])
        else:
            continue
        values = [name for name in left if name not in names]
        if len(values) != 1 or not columns.has_numbers(values[0]) or target not in ("", values[0]):
            continue
        if _is_regular(columns, time, names):
            yield Roles(time, names, (values[0],))


def _times(columns: _Columns) -> Iterator[tuple[str, ...]]:
    """Columns that may hold the time, the likeliest first."""
    called = {name.strip().lower(): name for name in reversed(columns.others)}
    for parts in PARTS:
        if all(part in called for part in parts) and not _is_date_alone(columns, called, parts):
            yield tuple(called[part] for part in parts)
    dated = [name for name in columns.others if columns.has_dates(name)]
    yield from ((name,) for name in dated)
    yield from (
        (called[word],) for word in TIME_NAMES if word in called if called[word] not in dated
    )


def _is_date_alone(columns: _Columns, called: dict[str, str], parts: Sequence[str]) -> bool:
    """Return whether a column "date" beside "time" holds the time of day already."""
    if parts != ("date", "time"):
        return False
    return columns.has_numbers(called["time"])


def _names_series(columns: _Columns, name: str) -> bool:
    cells = columns.cells[name]
    distinct = len(set(cells))
    if not 2 <= distinct <= len(cells) / LEAST_STAMPS:
        return False
    return not columns.has_numbers(name) or name.strip().lower() in SERIES_NAMES


def _is_regular(columns: _Columns, time: Sequence[str], names: Sequence[str]) -> bool:
    """Return whether the stamps are equally spaced, and hardly any is there twice."""
    stamps = columns.stamps(time)
    groups = columns.series(names) if names else ["" for _ in stamps]
    pairs = set(zip(groups, stamps, strict=True))
    if len(pairs) < LEAST_UNIQUE * len(stamps):
        return False
    return find_grid(stamps, groups=groups if names else ()) is not None


def _asked_roles(table: Table, columns: _Columns, *, target: str, options: SeriesOptions) -> Roles:
    time = _named(options.time, table) or _first_time(table, columns)
    values = _named(target, table)
    series = _named(options.series, table)
    left = [n for n in columns.others if n not in (*time, *series, *values)]
    if not series:
        series = _found_series(columns, time, left)
        left = [name for name in left if name not in series]
    if not values:
        numeric = [name for name in left if columns.has_numbers(name)]
        values = _default_values(numeric) if series else tuple(numeric)
    if not values:
        raise DataError(
            f"{table.path} has no column of numbers to forecast",
            seen=f"columns: {', '.join(map(repr, table.first))}; time: {some(list(time))}",
            fix="--target NAME",
        )
    return Roles(time, series, values)


def _named(text: str, table: Table) -> tuple[str, ...]:
    """The columns that a text names. Raises UnknownNameError for one that is not there."""
    if not text:
        return ()
    if text in table.first:
        return (text,)
    names = tuple(name.strip() for name in text.split(","))
    for name in names:
        if name not in table.first:
            raise unknown_name("column", name, table.first)
    return names


def _first_time(table: Table, columns: _Columns) -> tuple[str, ...]:
    candidates = list(_times(columns))
    for time in candidates:
        if find_grid(columns.stamps(time)) is not None:
            return time
    if candidates:
        return candidates[0]
    raise DataError(
        f"{table.path} has no column of time stamps",
        seen=f"columns: {', '.join(map(repr, table.first))}",
        fix="--data.time NAME, the column of dates, years or steps",
    )


def _found_series(columns: _Columns, time: Sequence[str], left: Sequence[str]) -> tuple[str, ...]:
    """The columns that tell apart the rows of the same time; () where there are no such rows."""
    stamps = columns.stamps(time)
    if len(set(stamps)) == len(stamps):
        return ()
    candidates = [name for name in left if _names_series(columns, name)]
    for size in range(1, MOST_NAMES + 1):
        for names in combinations(candidates, size):
            pairs = set(zip(columns.series(names), stamps, strict=True))
            if len(pairs) == len(stamps):
                return names
    return ()


def _default_values(numeric: Sequence[str]) -> tuple[str, ...]:
    """The column of values of a long table: one with a usual name, else the last."""
    called = {name.strip().lower(): name for name in numeric}
    usual = (called[word] for word in VALUE_NAMES if word in called)
    last = numeric[-1:] if numeric else ()
    return tuple(([*usual] or [*last])[:1])
