"""Rates that an optimizer's groups were built with, against those that its steps used."""

from math import inf, isfinite
from typing import Any

from thalweg.record import History
from thalweg.record.quantities import RATES_FLATTENED

FACTORS = ("lr_scale", "lr_mult", "lr_multiplier", "lr_factor")  # names that people give them
SAME = 1e-9  # relative difference of equal rates
FEWEST = 20  # steps


class GroupRates:
    """Compares the rates of the groups at every step: equal from the first to the last, or not."""

    def __init__(self, optimizers: tuple[Any, ...]) -> None:
        several = [one for one in optimizers if len(getattr(one, "param_groups", ())) > 1]
        self._optimizers = [one for one in several if _is_plain(one)]
        self._ratios = [_ratios(one.param_groups) for one in self._optimizers]
        self._equal = [bool(ratios) for ratios in self._ratios]
        self._steps = 0

    def record(self) -> None:
        """Compare the rates of one step; of an optimizer whose rates differed once, no more."""
        self._steps += 1
        for index, optimizer in enumerate(self._optimizers):
            if self._equal[index]:
                self._equal[index] = _largest_ratio(optimizer.param_groups, "lr") <= 1 + SAME

    def write(self, history: History, step: int) -> None:
        """Record the rates and factors that no step has used."""
        if not self._optimizers or self._steps < FEWEST:
            return
        unused: dict[str, float] = {"": 1.0}
        for equal, ratios in zip(self._equal, self._ratios, strict=True):
            if equal:
                unused |= ratios
        history.add(RATES_FLATTENED, step, unused)


def _is_plain(optimizer: Any) -> bool:
    """True for PyTorch's own optimizers; another one may read a group's factor by itself."""
    return type(optimizer).__module__.startswith("torch.optim")


def _ratios(groups: list[dict[str, Any]]) -> dict[str, float]:
    ratios = {name: _largest_ratio(groups, name) for name in ("lr", *FACTORS)}
    return {name: ratio for name, ratio in ratios.items() if 1 + SAME < ratio < inf}


def _largest_ratio(groups: list[dict[str, Any]], name: str) -> float:
    """The largest over the smallest; 1 where a group has none, infinite beside one that is 0."""
    values = [group.get(name) for group in groups]
    numbers = [float(value) for value in values if isinstance(value, int | float)]
    if len(numbers) < len(values) or not all(map(isfinite, numbers)) or max(numbers) <= 0:
        return 1.0
    return max(numbers) / min(numbers) if min(numbers) > 0 else inf
