"""What is known of the data: samples of both splits, the number of classes."""

from collections.abc import Iterable
from math import log
from typing import Any

from torch import Tensor

from thalweg.observe.guard import Guard
from thalweg.observe.samples import MOST_BYTES, Samples, gather, joined
from thalweg.record.quantities import CHANCE_LOSS, NUM_CLASSES

KEPT_BATCHES = 16  # training batches kept as the sample, where no loader was passed in


class Splits:
    """The loaders, read once and only when asked: reading them takes as long as many steps."""

    def __init__(self, train: Iterable[Any] | None, val: Iterable[Any] | None) -> None:
        self.train: Samples | None = None
        self.val: Samples | None = None
        self.num_classes = 0  # 0 where it is not known
        self._loaders = {"train": train, "val": val}  # what has not been read yet
        self._batches: list[tuple[Tensor, Tensor | None]] = []
        self._bytes = 0

    def know(self, train: Iterable[Any] | None, val: Iterable[Any] | None) -> None:
        """Loaders that became known after the beginning; None leaves what is there."""
        known = {"train": train, "val": val}
        self._loaders |= {name: loader for name, loader in known.items() if loader is not None}

    def read(self, guard: Guard) -> None:
        """Read a sample of each split; of the training split, the kept batches without a loader."""
        for name, loader in self._loaders.items():
            self._loaders[name] = None
            if loader is not None:
                with guard(name):
                    setattr(self, name, gather(loader))
        if self.train is None:
            pairs = [(i.cpu(), None if t is None else t.cpu()) for i, t in self._batches]
            self.train = joined(pairs, whole=False)

    def keep(self, inputs: Tensor | None, targets: Tensor | None) -> None:
        """Keep a few batches, should no loader give any; on their device, so that nothing waits."""
        if inputs is None or self.train is not None:
            return
        self._bytes += inputs.numel() * inputs.element_size()
        if len(self._batches) < KEPT_BATCHES and self._bytes <= MOST_BYTES:
            kept = None if targets is None else targets.detach().clone()
            self._batches.append((inputs.detach().clone(), kept))

    def note_classes(self, num_classes: int, guard: Guard, *, chance: float | None = None) -> None:
        """Record the number of classes, and what knowing only that scores."""
        if num_classes < 2:
            return
        self.num_classes = num_classes
        guard.history.add(NUM_CLASSES, guard.step, {"": float(num_classes)})
        guard.history.add(
            CHANCE_LOSS, guard.step, {"": log(num_classes) if chance is None else chance}
        )

    def infer_classes(self, logits: Tensor | None, targets: Tensor | None, guard: Guard) -> None:
        """Where nobody told: the width of the logits, if targets are class indices."""
        if self.num_classes or logits is None or targets is None:
            return
        if not targets.is_floating_point() and logits.ndim == 2 and targets.ndim == 1:
            self.note_classes(logits.shape[1], guard)
