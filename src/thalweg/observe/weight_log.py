"""Find the update that made the weights NaN or infinite: one small weight is summed at each step.

A loss that is NaN at step t came from weights that already were, or from a forward pass with finite
weights. A reading in twenty steps does not tell which.
"""

from math import isfinite
from typing import Any

import torch
from torch import Tensor

from thalweg.observe.readable_weight import is_readable
from thalweg.record import History
from thalweg.record.quantities import WEIGHT_NOT_FINITE

LARGEST = 4096  # entries of the weight that is summed


class WeightLog:
    """Sums of one small weight near the input, still on their device.

    A gradient that is NaN anywhere behind it reaches a weight near the input. Cost: one small sum a
    step, fetched with the losses.
    """

    def __init__(self, optimizers: tuple[Any, ...], first_step: int) -> None:
        self._weight = first_small_weight(optimizers)
        self._sums: list[Tensor] = []
        self._next_step = first_step
        self._broken = False

    def record(self) -> None:
        """Keep the sum as it is after an update."""
        if self._weight is not None and not self._broken:
            self._sums.append(self._weight.detach().sum(dtype=torch.float32))

    def fetch(self, history: History) -> None:
        """Record 0, or 1 at the first step after which the weight was not finite."""
        sums, self._sums = self._sums, []
        first, self._next_step = self._next_step, self._next_step + len(sums)
        if not sums:
            return
        values = torch.stack(sums).tolist()
        broken = next((i for i, value in enumerate(values) if not isfinite(value)), None)
        if broken is not None:
            self._broken = True
            history.add(WEIGHT_NOT_FINITE, first + broken, {"": 1.0})
        elif WEIGHT_NOT_FINITE not in history:
            history.add(WEIGHT_NOT_FINITE, first, {"": 0.0})


def first_small_weight(optimizers: tuple[Any, ...]) -> Tensor | None:
    """The first trained weight of few entries: a bias or a norm near the input."""
    weights = [w for o in optimizers for group in o.param_groups for w in group["params"]]
    for weight in weights:
        real = weight.requires_grad and is_readable(weight) and weight.is_floating_point()
        if real and type(weight.data) is Tensor and 0 < weight.numel() <= LARGEST:
            return torch.as_tensor(weight)
    return None
