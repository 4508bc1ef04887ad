"""Look at a loader's batches without a trace: the training then sees what it would have seen."""

import random
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import FunctionType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from thalweg.observe.samples import pair, undisturbed

LEFT_ALONE = (type, ModuleType, FunctionType, Tensor, torch.nn.Module)
DEEP = 4  # loader → dataset → the dataset of a subset → its transforms
Put = Callable[[], object]
Pair = Callable[[Any], tuple[Tensor | None, Tensor | None]]


def class_pair(batch: Any) -> tuple[Tensor | None, Tensor | None]:
    """(inputs, targets) of a batch; targets only where they are classes.

    What a training step makes of real-valued targets (a unit, a shape) is its own affair; the
    watcher reads those off the gradient, as the loss saw them.
    """
    inputs, targets = pair(dict(batch) if hasattr(batch, "keys") else batch)
    if targets is not None and targets.is_floating_point():
        return inputs, None
    return inputs, targets


class Traceless:
    """The batches of a loader, read in this process; all random states are put back after it.

    Reading a thousand samples takes what the user's own first batches take; workers are not
    started. None of it where the loader is not a torch DataLoader over an indexable dataset.
    """

    def __init__(self, batches: Callable[[], Iterable[Any]], owner: Any, pair: Pair) -> None:
        self._batches, self._owner, self._pair = batches, owner, pair

    def __iter__(self) -> Iterator[tuple[Tensor | None, Tensor | None]]:
        with undisturbed(self._owner), put_back(self._owner):
            for batch in self._batches():
                yield self._pair(batch)


class Later:
    """Batches that become known while the training runs, or never; they are read at its end."""

    def __init__(self) -> None:
        self.batches: Iterable[Any] = ()

    def __iter__(self) -> Iterator[Any]:
        return iter(self.batches)


def traceless(loader: Any, pair: Pair = class_pair) -> Traceless | None:
    """The loader's batches to look at; None where that cannot be done without a trace."""
    loader = getattr(loader, "base_dataloader", loader)  # accelerate's wrapper
    if not isinstance(loader, DataLoader) or isinstance(loader.dataset, IterableDataset):
        return None
    return Traceless(lambda: _in_this_process(loader), loader, pair)


def _in_this_process(loader: DataLoader[Any]) -> Iterator[Any]:
    dataset, collate = loader.dataset, loader.collate_fn
    if loader.batch_sampler is None:
        for index in loader.sampler:
            yield collate(dataset[index])
        return
    for indices in loader.batch_sampler:
        yield collate([dataset[index] for index in indices])


@contextmanager
def put_back(*owners: Any) -> Iterator[None]:
    """Put back the attributes and the random generators of these objects, and of their parts."""
    undo = [step for owner in owners for step in _undo(owner, set(), DEEP)]
    try:
        yield
    finally:
        for step in undo:
            step()


def _undo(owner: Any, seen: set[int], deep: int) -> Iterator[Put]:
    if id(owner) in seen or deep == 0:
        return
    seen.add(id(owner))
    restore = _generator_undo(owner)
    if restore is not None:
        yield restore
        return
    parts = owner if isinstance(owner, list | tuple) and len(owner) < 100 else ()
    if hasattr(owner, "__dict__") and not isinstance(owner, LEFT_ALONE):
        kept = dict(vars(owner))
        yield lambda: _restore(owner, kept)
        parts = tuple(kept.values())
    for part in parts:
        yield from _undo(part, seen, deep - 1)


def _restore(owner: Any, kept: dict[str, Any]) -> None:
    """The attributes as they were; what came up while reading, such as an open file, goes."""
    now = vars(owner)
    for name in [name for name in now if name not in kept]:
        del now[name]
    now.update(kept)


def _generator_undo(part: Any) -> Put | None:
    if isinstance(part, torch.Generator):
        state = part.get_state()
        return lambda: part.set_state(state)
    if isinstance(part, random.Random):
        known = part.getstate()
        return lambda: part.setstate(known)
    if isinstance(part, np.random.RandomState):
        legacy = part.get_state()
        return lambda: part.set_state(legacy)
    if isinstance(part, np.random.Generator):
        bits, at = part.bit_generator, part.bit_generator.state
        return lambda: setattr(bits, "state", at)
    return None
