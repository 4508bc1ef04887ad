"""Run the instruments of one watched training, and fetch their scalars from the device."""

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from thalweg.observe.guard import Guard
from thalweg.observe.instrument import Instrument, Measurements, Moment, When
from thalweg.record import Quantity


class Pending(NamedTuple):
    """A scalar that is still on its device."""

    step: int
    quantity: Quantity
    place: str
    scalar: Tensor
    skip_flag: Tensor | None  # not 0 where the update that it belongs to was not made


class InstrumentRunner:
    """Keeps scalars on the device until they are fetched together; drops broken instruments."""

    def __init__(self, instruments: Iterable[Instrument], guard: Guard) -> None:
        self._instruments = list(instruments)
        self._guard = guard
        self._pending: list[Pending] = []

    @property
    def keeps_weights(self) -> bool:
        """True if any instrument reads the weights as they were before the update."""
        return any(one.keeps_weights for one in self._instruments)

    @property
    def needs_samples(self) -> bool:
        """True if any instrument reads the loaders' samples before training is over."""
        return any(one.needs_samples for one in self._instruments)

    def measure(self, moment: Moment, when: When, *, thorough: bool = True) -> None:
        """Run all instruments of that time; without `thorough`, not the rare ones."""
        due = [one for one in self._instruments if one.when == when and (thorough or not one.rare)]
        self._run(due, moment)

    def repeat_at_end(self, moment: Moment) -> None:
        """Run those that measure more now that the samples are there."""
        self._run([one for one in self._instruments if one.repeats_at_end], moment)

    def has_measured(self, quantity: Quantity) -> bool:
        """True if the quantity was measured at a named place, fetched or not."""
        pending = any(one.place and one.quantity is quantity for one in self._pending)
        return pending or any(self._guard.history.by_place(quantity))

    def fetch(self) -> None:
        """Bring what is on the device into the history, in one transfer.

        Drop measurements of a skipped update: its gradients are still scaled.
        """
        pending, self._pending = self._pending, []
        flags = {id(one.skip_flag): one.skip_flag for one in pending if one.skip_flag is not None}
        numbers = _numbers([*(one.scalar for one in pending), *flags.values()])
        values, flag_values = numbers[: len(pending)], numbers[len(pending) :]
        skipped = {key for key, flag in zip(flags, flag_values, strict=True) if flag}
        by_step: dict[tuple[int, Quantity], dict[str, float]] = {}
        for one, value in zip(pending, values, strict=True):
            if id(one.skip_flag) not in skipped:
                by_step.setdefault((one.step, one.quantity), {})[one.place] = value
        for (step, quantity), measurements in by_step.items():
            self._guard.history.add(quantity, step, measurements)

    def _run(self, instruments: list[Instrument], moment: Moment) -> None:
        with torch.no_grad():
            for instrument in instruments:
                if instrument.keeps_weights and moment.copies is None:
                    continue  # the watch began within this update
                try:
                    for quantity, measurements in instrument(moment).items():
                        self._add(quantity, measurements, moment)
                except Exception as error:  # one broken instrument must not silence the others
                    self._instruments.remove(instrument)
                    for quantity in instrument.quantities:
                        self._guard.report_failure(quantity.name, error)

    def _add(self, quantity: Quantity, measurements: Measurements, moment: Moment) -> None:
        """Record plain numbers at once; keep what is still on the device."""
        plain: dict[str, float] = {}
        for place, value in measurements.items():
            if isinstance(value, Tensor):
                scalar = value.reshape(())
                self._pending.append(
                    Pending(moment.step, quantity, place, scalar, moment.skip_flag)
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
