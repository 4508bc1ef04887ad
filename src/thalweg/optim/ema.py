"""An exponential moving average of a model's weights: often better than the last ones.

Source: Polyak & Juditsky 1992; for deep nets Tarvainen & Valpola 2017,
https://arxiv.org/abs/1703.01780.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class WeightAverage:
    """`average ← decay · average + (1 − decay) · weight`; buffers, such as norms', are copied.

    State outlives a call: call `update` after each optimizer step, read inside `applied`.
    """

    def __init__(self, model: nn.Module, *, decay: float = 0.999) -> None:
        self.model, self.decay = model, decay
        self.average = {name: w.detach().clone() for name, w in model.state_dict().items()}
        self._trained = {name for name, _ in model.named_parameters()}

    @torch.no_grad()
    def update(self) -> None:
        """Take the model's weights of now into the average."""
        for name, weight in self.model.state_dict().items():
            if name in self._trained:
                self.average[name].lerp_(weight, 1 - self.decay)
            else:
                self.average[name].copy_(weight)

    @contextmanager
    def applied(self) -> Iterator[nn.Module]:
        """The model with averaged weights; its own are put back afterwards, bit for bit."""
        own: dict[str, Tensor] = {n: w.detach().clone() for n, w in self.model.state_dict().items()}
        self.model.load_state_dict(self.average)
        try:
            yield self.model
        finally:
            self.model.load_state_dict(own)
