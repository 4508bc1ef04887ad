"""Exponential moving average (EMA) of a model's weights, often better than the last weights.

Source: Polyak & Juditsky 1992; for deep nets Tarvainen & Valpola 2017,
https://arxiv.org/abs/1703.01780.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from thalweg.errors import UsageError


class WeightAverage:
    """`average ← decay · average + (1 − decay) · weight`; buffers, such as norms', are copied.

    Call `update` after each optimizer step, and evaluate inside `averaged_model`.
    """

    def __init__(self, model: nn.Module, *, decay: float = 0.999) -> None:
        if not 0 <= decay < 1:
            raise UsageError(
                "decay is the share of the average that each step keeps",
                seen=f"decay={decay}",
                fix="a number from 0 up to, but not including, 1, such as 0.999",
            )
        self.model, self.decay = model, decay
        state = model.state_dict()  # shares memory with the weights, so it follows them
        trained = {name for name, _ in model.named_parameters()}
        self.average = {name: weight.detach().clone() for name, weight in state.items()}
        self._weights = [weight.detach() for name, weight in state.items() if name in trained]
        self._means = [mean for name, mean in self.average.items() if name in trained]
        others = [name for name in state if name not in trained]
        self._copies = [self.average[name] for name in others]
        self._buffers = [state[name] for name in others]

    @torch.no_grad()
    def update(self, step: int | None = None) -> None:
        """Add the model's current weights to the average.

        With the number of the step, from 0, early averages decay faster: min(decay,
        (1 + step) / (10 + step)). Otherwise a short run would mostly hold its initial weights.
        Source: TensorFlow's ExponentialMovingAverage, `num_updates`.
        """
        decay = self.decay if step is None else min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(self._means, self._weights, 1 - decay)
        if self._buffers:
            torch._foreach_copy_(self._copies, self._buffers)

    def load(self, average: Mapping[str, Tensor]) -> None:
        """Restore a saved average."""
        for name, weight in self.average.items():
            weight.copy_(average[name])

    @contextmanager
    def averaged_model(self) -> Iterator[nn.Module]:
        """Swap the averaged weights into the model; restore its own afterwards, bit for bit."""
        own = [*self._weights, *self._buffers]
        copies = [tensor.clone() for tensor in own]
        with torch.no_grad():
            torch._foreach_copy_(own, [*self._means, *self._copies])
        try:
            yield self.model
        finally:
            with torch.no_grad():
                torch._foreach_copy_(own, copies)
