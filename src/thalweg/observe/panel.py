"""The instruments of one run, and what they showed that is still on its device."""

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from thalweg.observe.guard import Guard
from thalweg.observe.instrument import Instrument, Moment, Reading, When
from thalweg.record import Quantity


class Waiting(NamedTuple):
    """A scalar on its device, and what it was read of."""

    step: int
    quantity: Quantity
    place: str
    value: Tensor
    held_back: Tensor | None  # not 0 where the update that it is of was not made


class Panel:
    """Asks the instruments; keeps their scalars on the device until they are fetched together."""

    def __init__(self, instruments: Iterable[Instrument], guard: Guard) -> None:
        self._instruments = {one.name: one for one in instruments}
        self._guard = guard
        self._waiting: list[Waiting] = []

    @property
    def keeps_weights(self) -> bool:
        """Whether any instrument wants the weights as they were before the update."""
        return any(one.keeps_weights for one in self._instruments.values())

    @property
    def wants_samples(self) -> bool:
        """Whether any instrument wants the loaders' samples before training is over."""
        return any(one.wants_samples for one in self._instruments.values())

    def measure(self, moment: Moment, when: When, *, thorough: bool = True) -> None:
        """Ask all instruments of that time; without `thorough`, not the rare ones."""
        self._ask(
            [
                one
                for one in self._instruments.values()
                if one.when == when and (thorough or not one.rare)
            ],
            moment,
        )

    def measure_again(self, moment: Moment) -> None:
        """Ask those that see more now that the samples are there."""
        self._ask([one for one in self._instruments.values() if one.again], moment)

    def has_shown(self, quantity: Quantity) -> bool:
        """Whether the quantity has been measured at a named place, fetched or not."""
        waiting = any(one.place and one.quantity is quantity for one in self._waiting)
        return waiting or any(self._guard.history.by_place(quantity))

    def fetch(self) -> None:
        """Bring what waits on the device into the history, in one transfer.

        Of an update that was not made nothing was measured: its gradients are still scaled.
        """
        waiting, self._waiting = self._waiting, []
        asked = {id(one.held_back): one.held_back for one in waiting if one.held_back is not None}
        numbers = _numbers([*(one.value for one in waiting), *asked.values()])
        values, answers = numbers[: len(waiting)], numbers[len(waiting) :]
        void = {key for key, answer in zip(asked, answers, strict=True) if answer}
        grouped: dict[tuple[int, Quantity], dict[str, float]] = {}
        for one, value in zip(waiting, values, strict=True):
            if id(one.held_back) not in void:
                grouped.setdefault((one.step, one.quantity), {})[one.place] = value
        for (step, quantity), reading in grouped.items():
            self._guard.history.add(quantity, step, reading)

    def _ask(self, instruments: list[Instrument], moment: Moment) -> None:
        with torch.no_grad():
            for one in instruments:
                if one.keeps_weights and moment.kept is None:
                    continue  # the watch began within this update
                try:
                    for quantity, reading in one(moment).items():
                        self._take(quantity, reading, moment)
                except Exception as error:  # one broken instrument must not silence the others
                    del self._instruments[one.name]
                    for quantity in one.quantities:
                        self._guard.failed(quantity.name, error)

    def _take(self, quantity: Quantity, reading: Reading, moment: Moment) -> None:
        """Record the plain numbers at once; keep what is still on the device."""
        plain: dict[str, float] = {}
        for place, value in reading.items():
            if isinstance(value, Tensor):
                scalar = value.reshape(())
                self._waiting.append(
                    Waiting(moment.step, quantity, place, scalar, moment.held_back)
                )
            else:
                plain[place] = value
        if plain:
            self._guard.history.add(quantity, moment.step, plain)


def _numbers(scalars: list[Tensor]) -> list[float]:
    """Scalars as numbers, with one wait for the device."""
    if not scalars:
        return []
    device = scalars[0].device
    alike = [
        one
        if one.dtype == torch.float32 and one.device == device
        else one.to(device, torch.float32)
        for one in scalars
    ]
    return [float(value) for value in torch.stack(alike).tolist()]
