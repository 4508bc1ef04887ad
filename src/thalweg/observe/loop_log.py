"""Log what every step of the loop shows without a hook: modes and the finiteness of weights.

At the end, also what the loop has left behind: the state of its schedulers and of its loss scaler.
"""

from typing import Any

from torch import nn

from thalweg.observe.group_rates import GroupRates
from thalweg.observe.guard import Guard
from thalweg.observe.loop_state import drivers_of, write_loop_state
from thalweg.observe.mode_log import ModeLog
from thalweg.observe.weight_log import WeightLog
from thalweg.observe.weights_beside import WeightsBeside

SPARSE = 2  # what grows with the run is recorded each time that its steps have doubled


class LoopLog:
    """Records a line a step on the device or in a counter, and writes it when it is fetched."""

    def __init__(
        self,
        model: nn.Module,
        optimizers: tuple[Any, ...],
        guard: Guard,
        *,
        scheduler: Any = None,
        searches: bool = True,
    ) -> None:
        self._guard = guard
        self._searches = searches  # the process for what drives the loop
        self._drivers = [scheduler]  # and what else moves the loop, once it was looked for
        self._searched_at = -1  # the step at which they were last looked for at the end
        self._modes = ModeLog(model, optimizers)
        self._weights = WeightLog(optimizers, guard.step)
        self._rates = GroupRates(optimizers)
        self._beside = WeightsBeside(model, optimizers)
        self._optimizers = optimizers
        self._next_write = guard.step + 1

    def record(self) -> None:
        """Count one update; nothing here waits for the device."""
        self._modes.record()
        self._weights.record()
        self._rates.record()
        self._beside.record()

    def fetch(self, step: int) -> None:
        """Bring into the history what the steps before this one have shown."""
        self._weights.fetch(self._guard.history)
        self._modes.refresh()
        if step >= self._next_write:
            self._next_write = SPARSE * step
            self._modes.write(self._guard.history, max(0, step - 1))

    def find_drivers(self) -> None:
        """Find the loop's schedulers and scaler while it runs: they may be gone at its end."""
        if self._searches:
            self._drivers += drivers_of(self._optimizers)

    def complete(self, step: int, *, scaler: Any = None) -> None:
        """Record the counts as they are at the end, and the state of what drives the loop.

        `scaler` is one that was seen to make an update; it may be gone by now.
        """
        self._modes.write(self._guard.history, step)
        self._rates.write(self._guard.history, step)
        self._beside.write(self._guard.history, step)
        if step != self._searched_at:  # a diagnosis and then the close: the same objects
            self.find_drivers()
            self._searched_at = step
        objects = list({id(one): one for one in [*self._drivers, scaler]}.values())
        write_loop_state(self._guard.history, step, self._optimizers, objects=objects)
