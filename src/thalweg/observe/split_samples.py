"""Samples of the training and the validation split, and the number of classes."""

from collections.abc import Iterable
from math import log
from typing import Any

import torch
from torch import Tensor

from thalweg.observe.data_sample import DataSample, concatenate, read_sample
from thalweg.observe.guard import Guard
from thalweg.record.quantities import CHANCE_LOSS, NUM_CLASSES

MOST_OF_BATCHES = 28 * 2**20  # bytes of them, held while training
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
                    setattr(self, name, read_sample(loader, again=name == "val"))
        if self.train is None:
            pairs = [(i.cpu(), None if t is None else t.cpu()) for i, t in self._batches]
            self.train = concatenate(pairs)
            self._batches = []

    def keep_batch(self, inputs: Tensor | None, targets: Tensor | None) -> None:
        """Keep a few training batches for want of a loader; on their device: nothing waits."""
        if inputs is None or inputs.layout != torch.strided or self.train is not None:
            return
        if len(self._batches) >= BATCHES or self._bytes >= MOST_OF_BATCHES or not len(inputs):
            return
        own = inputs.numel() * inputs.element_size()
        rows = len(inputs) * (MOST_OF_BATCHES - self._bytes) // max(1, own)
        self._bytes += own
        if targets is not None and (not targets.ndim or len(targets) != len(inputs)):
            targets = None  # as of packed sequences, whose inputs are counted by the step
        if rows >= len(inputs):
            self._batches.append((_copy(inputs), None if targets is None else _copy(targets)))
        elif rows and not self._batches:  # few samples of one huge batch
            few = None if targets is None else _copy(targets[:rows])
            self._batches.append((_copy(inputs[:rows]), few))

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
        if self.num_classes or logits is None or targets is None or targets.ndim == 0:
            return
        if targets.is_floating_point() or targets.ndim != 1 or logits.ndim != 2:
            return
        pairs = len(targets) <= logits.shape[1]  # of a contrastive loss, whose targets are 0, 1, 2…
        if not pairs or not torch.equal(targets.cpu(), torch.arange(len(targets))):
            self.set_num_classes(logits.shape[1], step=step)


def _copy(tensor: Tensor) -> Tensor:
    return tensor.detach().clone()
