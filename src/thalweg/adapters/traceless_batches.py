"""Read a loader's batches without a trace: training then receives the batches it would have."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from torch.utils.data import DataLoader, IterableDataset

from thalweg.borrow import preserve_attributes, preserve_random_state
from thalweg.observe.data_sample import Pair, inputs_and_targets

PairOf = Callable[[Any], Pair]


def class_pair(batch: Any) -> Pair:
    """(inputs, targets) of a batch; targets only where they are classes.

    A training step may change the unit or the shape of real-valued targets; the watcher reads
    those off the gradient, as the loss compared them.
    """
    inputs, targets = inputs_and_targets(dict(batch) if hasattr(batch, "keys") else batch)
    if targets is not None and targets.is_floating_point():
        return inputs, None
    return inputs, targets


class TracelessBatches:
    """Batches of a loader, read in this process; its state and all random states are restored.

    Reading a thousand samples takes as long as the user's own first batches; no workers start.
    """

    def __init__(self, batches: Callable[[], Iterable[Any]], owner: Any, pair: PairOf) -> None:
        self._batches, self._owner, self._pair = batches, owner, pair

    def __iter__(self) -> Iterator[Pair]:
        with preserve_random_state(self._owner), preserve_attributes(self._owner):
            for batch in self._batches():
                yield self._pair(batch)


class DeferredBatches:
    """Batches that become known while training, or never; they are read at its end."""

    def __init__(self) -> None:
        self.batches: Iterable[Any] = ()

    def __iter__(self) -> Iterator[Any]:
        return iter(self.batches)


def traceless_batches(loader: Any, pair: PairOf = class_pair) -> TracelessBatches | None:
    """The loader's batches; None unless it is a torch DataLoader over an indexable dataset."""
    loader = getattr(loader, "base_dataloader", loader)  # accelerate's wrapper
    if not isinstance(loader, DataLoader) or isinstance(loader.dataset, IterableDataset):
        return None
    return TracelessBatches(lambda: _in_this_process(loader), loader, pair)


def _in_this_process(loader: DataLoader[Any]) -> Iterator[Any]:
    dataset, collate = loader.dataset, loader.collate_fn
    if loader.batch_sampler is None:
        for index in loader.sampler:
            yield collate(dataset[index])
        return
    for indices in loader.batch_sampler:
        yield collate([dataset[index] for index in indices])
