"""Gather samples into batches; order and chance follow from (seed, epoch, step) alone."""

from collections.abc import Callable, Generator, Iterator
from contextlib import nullcontext
from functools import partial
from itertools import count as numbers
from typing import Any

import numpy as np
import torch
from torch import Tensor

from thalweg.data.batch import (
    Batch,
    Inputs,
    cut_batch,
    derived_seed,
    each_tensor,
    part_of,
    to_device,
)
from thalweg.data.dataset import Dataset
from thalweg.data.images.memory_map import release
from thalweg.data.modality import AugmentedSplit
from thalweg.data.prefetch import prefetch_batches, threads_to_spare
from thalweg.errors import DataError

READY_BYTES = 16 << 20  # a split of bytes that fits this as floats is normalised once
READY_FLOAT_BYTES = 1 << 30  # the same for what is stored as floats already
DEVICE_SHARE = 0.25  # of a GPU's free memory: a split that fits this is kept there
DEVICE_BYTES = 4 << 30  # the same for an accelerator that does not tell its free memory
RELEASE_BYTES = 8 << 20  # mapped by gathering before the pages are released
BUCKETS = 50  # batches whose samples are sorted by length together, where lengths differ
FAULT_BYTES = 64 << 10  # mapped by Linux around an address that is touched

Resize = Callable[[Any, int], Any]  # raw samples and the number of their batch


class Batches:
    """The batches of one split: an endless stream from any number on, or one epoch.

    Batch `number` is the same bit for bit whenever it is computed, so that a run resumed in the
    middle of an epoch goes on as if it had never stopped. `augment` holds the settings of random
    changes, as a recipe's `augment` does; the modality heeds those that apply to it.
    """

    def __init__(
        self,
        dataset: Dataset,
        split: str,
        *,
        batch_size: int,
        seed: int = 0,
        shuffle: bool = False,
        drop_last: bool = False,
        augment: Any = None,
        channels_last: bool = True,
        device: torch.device | str = "cpu",
    ) -> None:
        self._split, self._rows = split, dataset.indices[split].astype(np.int64)
        self._size = min(batch_size, max(1, len(self._rows)))
        self._seed, self._shuffle, self._drop_last = seed, shuffle, drop_last
        self._channels_last = channels_last
        self._device, self._modality = torch.device(device), dataset.modality
        self._preprocessing, self._stored = dataset.preprocessing, dataset.inputs
        self._input_shape = dataset.facts.input_shape
        # Where samples are of one shape; as a plain array, which a memory map is slower than.
        is_array = isinstance(dataset.inputs, np.ndarray)
        self._array = np.asarray(dataset.inputs) if is_array else None
        self._touched, self._decoding = 0, dataset.decoding
        augmentation = None if augment is None else self._modality.augmentation
        self._ready, self._raw = self._hold(is_augmented=augmentation is not None)
        # Positions are picked beside the samples, so that no pick waits for the device.
        self._home = self._device if self._is_held else torch.device("cpu")
        self._targets = torch.zeros(0)  # where the samples hold their own
        if self._modality.own_targets is None:
            self._targets = torch.from_numpy(dataset.targets[self._rows]).to(self._home)
        origin = AugmentedSplit(dataset.inputs, len(self._rows), seed, self._home, self._device)
        self._augment = None
        if augmentation is not None:
            self._augment = augmentation(augment, dataset.preprocessing, origin)
        lengths = self._modality.row_lengths
        self._lengths: Tensor | None = None  # of the split's samples, where they differ
        if shuffle and lengths is not None:
            self._lengths = torch.from_numpy(lengths(dataset.inputs)[self._rows])
        self._orders: dict[int, tuple[Tensor, ...]] = {}
        if self._decoding is not None and shuffle:
            order = torch.cat(self._order(0)).numpy(force=True)
            self._decoding.prefer(self._rows[order].tolist())

    def __len__(self) -> int:
        """Batches in an epoch."""
        full, rest = divmod(len(self._rows), self._size)
        return full if self._drop_last or not rest else full + 1

    def __iter__(self) -> Iterator[Batch]:
        """The first epoch, once."""
        for number in range(len(self)):
            yield self._batch(number)

    def every(self, first: int, step: int) -> Iterator[Batch]:
        """Every `step`-th batch of the first epoch, from number `first` on."""
        for number in range(first, len(self), step):
            yield self._batch(number)

    def stream(
        self,
        start: int = 0,
        *,
        resize: Resize | None = None,
        prefetch: bool = False,
        rank: int = 0,
        count: int = 1,
    ) -> Generator[Batch]:
        """Yield batches without end, from number `start` on; each epoch has its own order.

        `resize` makes the images of the first batches smaller, before augmentation. With `prefetch`
        threads make the next batches while one is in use, if a core is free; they end when the
        stream is closed. Each of `count` ranks makes the inputs of its own rows, bit for bit those
        of the whole batch, and the targets of all.
        Raises DataError, at the first batch, if the split is empty.
        """
        if not len(self):
            raise DataError(f"the split {self._split!r} is empty", fix="give it samples")
        threads = threads_to_spare(self._device) if prefetch and not self._is_held else 0
        make = partial(self._batch, resize=resize, rank=rank, count=count)
        if threads:
            yield from prefetch_batches(make, start, threads=threads, device=self._device)
        with nullcontext() if self._decoding is None else self._decoding.paused():
            yield make(start)  # training waits for this batch and its update
        for number in numbers(start + 1):
            yield make(number)

    def rows(self, number: int) -> np.ndarray:
        """Rows of the data set in batch `number`, int64: for naming its samples."""
        epoch, place = divmod(number, max(1, len(self)))
        return self._rows[self._order(epoch)[place].numpy(force=True)]

    def _batch(
        self, number: int, resize: Resize | None = None, *, rank: int = 0, count: int = 1
    ) -> Batch:
        epoch, place = divmod(number, len(self))
        positions = self._order(epoch)[place]
        # Computed whole where a rank has no rows, or padding goes by the batch's longest sample.
        if len(positions) < count or (count > 1 and self._array is None):
            return cut_batch(self._batch(number, resize), rank=rank, count=count)
        part = part_of(len(positions), rank=rank, count=count)
        targets, positions = self._targets_at(positions), part.of(positions)
        if self._ready is not None:
            return Batch(self._ordered(self._ready.index_select(0, positions)), targets)
        raw: Any = self._gather(positions)
        if resize is not None:
            raw = resize(raw, number)
        if self._augment is not None:
            # A generator of its own: threads compute other batches at the same time.
            chance = torch.Generator(self._device)
            chance.manual_seed(derived_seed(self._seed, epoch, place))
            raw = self._augment(raw, chance, positions=positions, epoch=epoch, part=part)
        if self._modality.own_targets is not None:
            targets = self._modality.own_targets(raw)
        inputs: Inputs = self._preprocessing.to_inputs(raw)
        if not self._channels_last:
            inputs = each_tensor(inputs, Tensor.contiguous)
        return Batch(inputs, to_device(targets, self._device))

    def _targets_at(self, positions: Tensor) -> Tensor:
        if self._modality.own_targets is not None:
            return self._targets
        return self._targets.index_select(0, positions)

    def _ordered(self, ready: Tensor) -> Tensor:
        """[n, h, w, c] as [n, c, h, w], in the memory order that the model takes; others as is."""
        if ready.ndim != 4:
            return ready
        planes = ready.permute(0, 3, 1, 2)
        return planes if self._channels_last else planes.contiguous()

    def _order(self, epoch: int) -> tuple[Tensor, ...]:
        """Positions in the split, a tensor a batch; shuffled anew for each epoch."""
        order = self._orders.get(epoch)
        if order is None:
            positions = torch.arange(len(self._rows))
            if self._shuffle:
                # On the CPU whatever the device: the same order everywhere.
                chance = torch.Generator().manual_seed(derived_seed(self._seed, epoch, -1))
                positions = torch.randperm(len(self._rows), generator=chance)
                if self._lengths is not None:
                    positions = self._bucketed(positions, chance)
            order = positions.to(self._home).split(self._size)
            # Two are cached, so that threads at either side of an epoch's end find theirs.
            self._orders = {**dict(list(self._orders.items())[-1:]), epoch: order}
        return order

    def _bucketed(self, positions: Tensor, chance: torch.Generator) -> Tensor:
        """The shuffled positions with batches of samples of similar length, which pad little.

        The samples of each `BUCKETS` batches are sorted by length; the whole batches of the epoch
        are then shuffled. A last batch of fewer samples stays the last.
        """
        assert self._lengths is not None
        lengths = self._lengths
        chunks = positions.split(BUCKETS * self._size)
        ordered = torch.cat([chunk[lengths[chunk].argsort(stable=True)] for chunk in chunks])
        whole = len(ordered) // self._size * self._size
        batches = ordered[:whole].view(-1, self._size)
        shuffled = batches[torch.randperm(len(batches), generator=chance)].flatten()
        return torch.cat((shuffled, ordered[whole:]))

    @property
    def _is_held(self) -> bool:
        return self._ready is not None or self._raw is not None

    def _hold(self, *, is_augmented: bool) -> tuple[Tensor | None, Tensor | None]:
        """Put the split on the device where it fits: normalised, or else raw; None for either not.

        What is normalised is held with channels last: picked from another order, images would be
        copied once more.
        """
        if self._array is None:
            return None, None
        # Of a table's row, more inputs are made than it has numbers.
        size = max(np.prod(self._array.shape[1:]), np.prod(self._input_shape))
        values = len(self._rows) * int(size)
        limit = READY_FLOAT_BYTES if self._array.dtype.kind == "f" else READY_BYTES
        if not is_augmented and 4 * values <= limit:
            raw = torch.from_numpy(self._all()).to(self._device)
            ready = self._preprocessing.to_inputs(raw)
            if isinstance(ready, Tensor):
                return (ready.permute(0, 2, 3, 1) if ready.ndim == 4 else ready), None
        # Training does not wait for all files: while some are decoded, batches are sent one by one.
        is_complete = self._decoding is None or self._decoding.is_finished
        if is_complete and values * self._array.itemsize <= room_on(self._device):
            return None, torch.from_numpy(self._all()).to(self._device)
        return None, None

    def _all(self) -> np.ndarray:
        assert self._array is not None
        if self._decoding is not None:
            self._decoding.wait_for(self._rows)
        return self._array[self._rows]

    def _gather(self, positions: Tensor) -> Inputs:
        """The raw samples of a batch, on the device."""
        if self._raw is not None:
            return self._raw.index_select(0, positions)
        rows = self._rows[positions.numpy()]
        if self._modality.gather is not None:
            raw = self._modality.gather(self._stored, rows)
            return each_tensor(raw, lambda tensor: to_device(tensor, self._device))
        if self._array is None:
            raw = self._modality.collate([self._stored[row] for row in rows.tolist()])
            return each_tensor(raw, lambda tensor: to_device(tensor, self._device))
        if self._decoding is not None:
            self._decoding.wait_for(rows)
        gathered = torch.from_numpy(self._array.take(rows, axis=0))
        self._touched += len(rows) * max(self._array[0].nbytes, FAULT_BYTES)
        if self._touched > RELEASE_BYTES:
            release(self._array)
            self._touched = 0
        return to_device(gathered, self._device)


def room_on(device: torch.device) -> float:
    """Bytes of an accelerator's memory that a split may take; 0 on the CPU, where it is mapped."""
    if device.type == "cuda":
        return DEVICE_SHARE * torch.cuda.mem_get_info(device)[0]
    return 0 if device.type == "cpu" else DEVICE_BYTES
