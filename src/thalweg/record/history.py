"""All measurements of one run, in memory."""

from collections.abc import Callable, Iterator, Mapping

from thalweg.record.quantities import Quantity, quantity_called

Series = dict[int, float]  # step -> value, in the order of measurement
Sink = Callable[[Quantity, int, Mapping[str, float]], None]


class History:
    """Quantity → place → {step: value}. `add` also writes to `sink`, such as a run's file."""

    def __init__(self, sink: Sink | None = None) -> None:
        self._table: dict[str, dict[str, Series]] = {}
        self.sink = sink

    def add(self, quantity: Quantity, step: int, values: Mapping[str, float]) -> None:
        places = self._table.setdefault(quantity.name, {})
        for place, value in values.items():
            places.setdefault(place, {})[step] = value
        if self.sink is not None:
            self.sink(quantity, step, values)

    def __contains__(self, quantity: Quantity) -> bool:
        return bool(self._table.get(quantity.name))

    def __iter__(self) -> Iterator[Quantity]:
        return map(quantity_called, self._table)

    def by_place(self, quantity: Quantity) -> Mapping[str, Series]:
        """Each place's series; empty where the quantity was never measured."""
        return self._table.get(quantity.name, {})

    def series(self, quantity: Quantity, place: str = "") -> Series:
        """One place's {step: value}; empty where it was never measured."""
        return self.by_place(quantity).get(place, {})

    def first(self, quantity: Quantity, place: str = "") -> float:
        series = self.series(quantity, place)
        return series[min(series)]

    def last(self, quantity: Quantity, place: str = "") -> float:
        series = self.series(quantity, place)
        return series[max(series)]
