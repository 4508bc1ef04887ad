"""An exponential moving average of a model's weights: often better than the last ones.

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

    State outlives a call: call `update` after each optimizer step, read inside `applied`.
    """

    def __init__(self, model: nn.Module, *, decay: float = 0.999) -> None:
        if not 0 <= decay < 1:
            raise UsageError(
                "the average of weights keeps a share of itself at each step",
                seen=f"decay={decay}",
                fix="a number from 0 up to, but not including, 1, such as 0.999",
            )
        self.model, self.decay = model, decay
        held = model.state_dict()  # views of the weights: what they hold changes with them
        trained = {name for name, _ in model.named_parameters()}
        self.average = {name: weight.detach().clone() for name, weight in held.items()}
        self._weights = [weight.detach() for name, weight in held.items() if name in trained]
        self._means = [mean for name, mean in self.average.items() if name in trained]
        others = [name for name in held if name not in trained]
        self._copies = [self.average[name] for name in others]
        self._buffers = [held[name] for name in others]

    @torch.no_grad()
    def update(self, step: int | None = None) -> None:
        """Take the model's weights of now into the average.

        With the number of the step, from 0, young averages forget faster, min(decay,
        (1 + step) / (10 + step)): else a short run's would mostly hold its initial weights.
        Source: TensorFlow's ExponentialMovingAverage, `num_updates`.
        """
        decay = self.decay if step is None else min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(self._means, self._weights, 1 - decay)
        if self._buffers:
            torch._foreach_copy_(self._copies, self._buffers)

    def load(self, average: Mapping[str, Tensor]) -> None:
        """Go on from an average that was kept."""
        for name, weight in self.average.items():
            weight.copy_(average[name])

    @contextmanager
    def applied(self) -> Iterator[nn.Module]:
        """The model with averaged weights; its own are put back afterwards, bit for bit."""
        own: dict[str, Tensor] = {n: w.detach().clone() for n, w in self.model.state_dict().items()}
        self.model.load_state_dict(self.average)
        try:
            yield self.model
        finally:
            self.model.load_state_dict(own)
