"""Backward passes of one update whose gradient was cleared before the next one arrived."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from thalweg.observe.forward_pass import is_plain, tensors
from thalweg.observe.spaced_entries import spaced_entries

MOST_WEIGHTS = 4  # that are looked at: what clears one gradient clears all
MOST_ENTRIES_COMPARED = 256  # of a gradient
SAME = 0.999  # cosine of two gradients that differ in length alone, as by clipping
MOST_ENTRIES = 16  # of each pass's inputs, to tell micro-batches from the same batch again


class ClearedPasses:
    """Notes, while the passes of one update run, whether gradients add up from pass to pass.

    Passes between which the weights changed (several updates, a perturbed second pass) say nothing,
    nor do passes over the same inputs (gradients of several tasks, sharpness-aware steps), or over
    inputs that take a gradient themselves.
    """

    def __init__(self) -> None:
        self._states: dict[str, tuple[int, int]] = {}  # weight → version and memory
        self._leftovers: list[Tensor | float] = []  # what each later pass met
        self._inputs: list[Tensor] = []
        self._last: dict[str, Tensor] = {}  # weight → entries of the last pass's gradient
        self._cosines: list[Tensor] = []  # of the update's gradient and the last pass's
        self._is_for_inputs = False  # a pass whose gradient may be meant for its inputs

    def note_inputs(self, first: Tensor | None, arguments: Any) -> None:
        """Keep some numbers of a forward pass's first input, and if any input takes a gradient.

        A discriminator is passed a generator's samples, an attack's pictures: what reaches the
        weights then is cleared on purpose.
        """
        self._is_for_inputs |= any(one.requires_grad for one in tensors(arguments))
        if first is not None and is_plain(first) and first.numel():
            self._inputs.append(first.detach().flatten()[:MOST_ENTRIES].double())

    def note_gradient(
        self, name: str, weight: Tensor, *, leftover: Tensor | float, gradient: Tensor
    ) -> None:
        """Note the gradient that a weight had before another one arrives."""
        if not is_plain(weight):
            return
        if name in self._states or len(self._states) < MOST_WEIGHTS:
            self._last[name] = _few_entries(gradient)
        state = weight._version, weight.data_ptr()
        if self._states.get(name) == state:
            self._leftovers.append(leftover)
        if name in self._states or len(self._states) < MOST_WEIGHTS:
            self._states[name] = state

    def note_update(self, gradients: Mapping[str, Tensor | None]) -> None:
        """Compare what the optimizer gets with the last pass's gradient, up to its length.

        A loop may gather the gradients of its passes by itself, and hand their mean over.
        """
        for name, last in self._last.items() if self._leftovers else ():
            own = gradients.get(name)
            if own is not None:
                entries = _few_entries(own)
                lengths = entries.norm() * last.norm()
                self._cosines.append(torch.where(lengths > 0, (entries @ last) / lengths, 1.0))
        self._states = {}  # a pass after an update, be it another network's, belongs to the next

    def share(self) -> Tensor | None:
        """The share of the later passes that met no gradient; None where there were none."""
        if self._is_for_inputs or not self._leftovers or not self._are_different():
            return None
        if any(float(cosine) < SAME for cosine in self._cosines):
            return None  # gathered by the loop itself
        met = torch.stack([torch.as_tensor(one).detach().cpu() for one in self._leftovers])
        return (met == 0).double().mean()

    def _are_different(self) -> bool:
        if len(self._inputs) < 2:
            return False
        first, *others = self._inputs
        return all(one.shape != first.shape or not torch.equal(one, first) for one in others)


def _few_entries(tensor: Tensor) -> Tensor:
    """Evenly spaced entries, on their device."""
    return spaced_entries(tensor.detach().flatten(), MOST_ENTRIES_COMPARED).double().clone()
