"""Look at a loader's batches without a trace: the training then sees what it would have seen."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from thalweg.borrow import preserve_attributes, preserve_random_state
from thalweg.observe.data_sample import inputs_and_targets

Pair = Callable[[Any], tuple[Tensor | None, Tensor | None]]


def class_pair(batch: Any) -> tuple[Tensor | None, Tensor | None]:
    """(inputs, targets) of a batch; targets only where they are classes.

    What a training step makes of real-valued targets (a unit, a shape) is its own affair; the
    watcher reads those off the gradient, as the loss saw them.
    """
    inputs, targets = inputs_and_targets(dict(batch) if hasattr(batch, "keys") else batch)
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
        with preserve_random_state(self._owner), preserve_attributes(self._owner):
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
