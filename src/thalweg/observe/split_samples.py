"""Samples of the training and the validation split, and the number of classes."""

from collections.abc import Iterable
from math import log
from typing import Any

from torch import Tensor

from thalweg.observe.data_sample import MOST_BYTES, DataSample, concatenate, read_sample
from thalweg.observe.guard import Guard
from thalweg.record.quantities import CHANCE_LOSS, NUM_CLASSES

BATCHES = 16  # training batches that stand for the split where no loader was passed in


class SplitSamples:
    """Reads each loader once and only at the end: reading takes as long as many steps."""

    def __init__(
        self, train: Iterable[Any] | None, val: Iterable[Any] | None, *, guard: Guard
    ) -> None:
        self.train: DataSample | None = None
        self.val: DataSample | None = None
        self.num_classes = 0  # 0 where it is not known
        self._loaders = {"train": train, "val": val}  # those that have not been read yet
        self._guard = guard
        self._batches: list[tuple[Tensor, Tensor | None]] = []
        self._bytes = 0

    def set_loaders(self, train: Iterable[Any] | None, val: Iterable[Any] | None) -> None:
        """Loaders that become known while training; None leaves the earlier one."""
        later = {"train": train, "val": val}
        self._loaders |= {name: loader for name, loader in later.items() if loader is not None}

    def read_loaders(self) -> None:
        """Read a sample of each split; without a training loader, use the batches of training."""
        for name, loader in self._loaders.items():
            self._loaders[name] = None
            if loader is not None:
                with self._guard(name):
                    setattr(self, name, read_sample(loader))
        if self.train is None:
            pairs = [(i.cpu(), None if t is None else t.cpu()) for i, t in self._batches]
            self.train = concatenate(pairs)

    def keep_batch(self, inputs: Tensor | None, targets: Tensor | None) -> None:
        """Keep a few training batches for want of a loader; on their device: nothing waits."""
        if inputs is None or self.train is not None:
            return
        self._bytes += inputs.numel() * inputs.element_size()
        if len(self._batches) < BATCHES and self._bytes <= MOST_BYTES:
            copy = None if targets is None else targets.detach().clone()
            self._batches.append((inputs.detach().clone(), copy))

    def set_num_classes(self, num_classes: int, *, step: int, chance: float | None = None) -> None:
        """Record the number of classes, and the loss of a model that knows nothing more."""
        if num_classes < 2:
            return
        self.num_classes = num_classes
        history = self._guard.history
        history.add(NUM_CLASSES, step, {"": float(num_classes)})
        history.add(CHANCE_LOSS, step, {"": log(num_classes) if chance is None else chance})

    def infer_num_classes(
        self, logits: Tensor | None, targets: Tensor | None, *, step: int
    ) -> None:
        """Take the width of the logits where targets are class indices and nobody passed it in."""
        if self.num_classes or logits is None or targets is None:
            return
        if not targets.is_floating_point() and logits.ndim == 2 and targets.ndim == 1:
            self.set_num_classes(logits.shape[1], step=step)
