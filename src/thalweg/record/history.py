"""All measurements of one run, in memory."""

from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from typing import Any

from thalweg.errors import UnknownNameError, UsageError
from thalweg.notebook import curve, paragraph, table
from thalweg.record.quantities import quantity_called
from thalweg.record.quantity import Quantity
from thalweg.record.series import MOST_POINTS, CompactSeries
from thalweg.registry import unknown_name
from thalweg.wording import figure, markup, some

MOST_IN_ALL = 2**21  # points of all series together: 32 MiB
MOST_ROWS = 12  # curves in a notebook
FEWEST = 2**8  # points of a series that are never thinned

Series = Mapping[int, float]  # step -> value, in the order of steps
Sink = Callable[[Quantity, int, Mapping[str, float]], None]


class History:
    """Quantity → place → {step: value}. `add` also writes to `sink`, such as a run's file.

    Bounded: a series of more than 65,536 points is thinned here (series.py), not in the sink.
    """

    def __init__(self, sink: Sink | None = None) -> None:
        self._table: dict[str, dict[str, CompactSeries]] = {}
        self._most = MOST_POINTS  # of one series
        self._check_at = MOST_IN_ALL  # points added before the next look at the sum
        self._added = 0
        self.sink = sink

    def add(self, quantity: Quantity, step: int, values: Mapping[str, float]) -> None:
        places = self._table.setdefault(quantity.name, {})
        for place, value in values.items():
            series = places.get(place)
            if series is None:
                series = places[place] = CompactSeries(self._most)
            series.add(step, value)
        self._added += len(values)
        if self._added >= self._check_at:
            self._limit_sum()
        if self.sink is not None:
            self.sink(quantity, step, values)

    def _limit_sum(self) -> None:
        """Thin the longest series until all of them together are within the limit."""
        every = [series for places in self._table.values() for series in places.values()]
        while sum(map(len, every)) > MOST_IN_ALL * 3 // 4 and self._most > FEWEST:
            self._most //= 2
            for series in every:
                series.thin(self._most)
        self._check_at = self._added + MOST_IN_ALL // 4

    def count(self, quantity: Quantity, place: str = "") -> int:
        """Points that were measured at one place, also those left out since."""
        series = self._table.get(quantity.name, {}).get(place)
        return 0 if series is None else series.count

    def __contains__(self, quantity: Quantity | str) -> bool:
        name = quantity if isinstance(quantity, str) else quantity.name
        return bool(self._table.get(name))

    def __getitem__(self, name: str | tuple[str, str]) -> Series:
        """One series, {step: value}, by its quantity's name; of several places, by both names.

        Raises: UnknownNameError, a KeyError, which offers the nearest name.

        >>> from thalweg.record.quantities import LOSS
        >>> history = History()
        >>> history.add(LOSS, 0, {"": 2.5})
        >>> history["loss"]
        {0: 2.5}
        """
        quantity, place = (name, "") if isinstance(name, str) else name
        if quantity not in self:
            raise unknown_name("measured quantity", quantity, sorted(self._table))
        places = self._table[quantity]
        if place in places:
            return places[place]
        if isinstance(name, str):
            raise UnknownNameError(
                f"{name!r} was measured in several places",
                seen=some(list(places)),
                fix=f"history[{name!r}, {next(iter(places))!r}]",
            )
        raise unknown_name(f"place of {quantity}", place, places)

    def to_frame(self, *names: str) -> Any:
        """The series as a pandas data frame: a row a step, a column each; NaN between readings.

        Without names, all quantities that have one value a step. A quantity of several places, such
        as "gradient_norm", gives a column "gradient_norm/PLACE" for each.
        Raises: UsageError without pandas; UnknownNameError.
        """
        try:
            pandas: Any = import_module("pandas")
        except ImportError as error:
            raise UsageError(
                "to_frame needs pandas", seen=str(error), fix="pip install pandas"
            ) from error
        columns = {}
        for name in names or [name for name, places in self._table.items() if "" in places]:
            if name not in self:
                raise unknown_name("measured quantity", name, sorted(self._table))
            for place, series in self._table[name].items():
                columns[f"{name}/{place}" if place else name] = dict(series.items())
        return pandas.DataFrame(columns).sort_index().rename_axis("step")

    def _repr_html_(self) -> str:
        """A table of the longest curves for a cell of a notebook, and the names of the others."""
        curves = {name: places[""] for name, places in self._table.items() if "" in places}
        longest = sorted(curves, key=lambda name: -curves[name].count)[:MOST_ROWS]
        rows = [
            (
                markup(name),
                f"{series.count:,}",
                *(markup(figure(series.value_array[end])) for end in (0, -1)),
                curve(list(series.value_array)),
            )
            for name in longest
            for series in (curves[name],)
        ]
        others = [name for name in self._table if name not in longest]
        more = paragraph(f"also measured: {', '.join(others)}") if others else ""
        return f"<div>{table(('quantity', 'points', 'first', 'last', ''), rows)}{more}</div>"

    def __iter__(self) -> Iterator[Quantity]:
        return map(quantity_called, self._table)

    def by_place(self, quantity: Quantity) -> Mapping[str, Series]:
        """Each place's series; empty where the quantity was never measured."""
        return self._table.get(quantity.name, {})

    def series(self, quantity: Quantity, place: str = "") -> Series:
        """One place's {step: value}; empty where it was never measured."""
        return self.by_place(quantity).get(place, {})

    def first(self, quantity: Quantity, place: str = "") -> float:
        return self._table[quantity.name][place].value_array[0]

    def last(self, quantity: Quantity, place: str = "") -> float:
        return self._table[quantity.name][place].value_array[-1]
