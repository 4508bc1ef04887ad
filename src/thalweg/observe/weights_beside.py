"""Tell if weights that no optimizer holds change all the same: something else trains them.

A loop may keep the weights that it updates in higher precision, and copy them into the model.
"""

from typing import Any

import torch
from torch import Tensor, nn

from thalweg.observe.bare_copy import named_weights
from thalweg.observe.readable_weight import is_readable
from thalweg.observe.spaced_entries import spaced_entries
from thalweg.record import History
from thalweg.record.quantities import CHANGED_BESIDE

MOST_WEIGHTS = 256
MOST_ENTRIES = 64  # of a weight


class WeightsBeside:
    """Some entries of the trainable weights that no optimizer holds, after the first update."""

    def __init__(self, model: nn.Module, optimizers: tuple[Any, ...]) -> None:
        self._model, self._optimizers = model, optimizers
        self._first: dict[str, Tensor] | None = None
        self._updates = 0

    def record(self) -> None:
        """Count one update; keep the entries at the first one."""
        if self._first is None:
            self._first = self._entries()
        self._updates += 1

    def write(self, history: History, step: int) -> None:
        """Record 1 for each of these weights that changed since the first update, else 0."""
        if not self._first or self._updates < 2:
            return
        now = self._entries()
        changed = {
            name: float(not torch.equal(first, now[name]))
            for name, first in self._first.items()
            if name in now and now[name].shape == first.shape
        }
        history.add(CHANGED_BESIDE, step, changed)

    def _entries(self) -> dict[str, Tensor]:
        groups = [group for one in self._optimizers for group in getattr(one, "param_groups", ())]
        held = {id(weight) for group in groups for weight in group["params"]}
        beside = [
            (name, weight)
            for name, weight in named_weights(self._model)
            if weight.requires_grad and id(weight) not in held and is_readable(weight)
        ]
        return {
            name: spaced_entries(weight.detach(), MOST_ENTRIES).clone()
            for name, weight in beside[:MOST_WEIGHTS]
        }
