"""Samples gathered into batches; order and chance follow from (seed, epoch, step) alone."""

from collections.abc import Generator, Iterator
from contextlib import nullcontext
from functools import partial
from hashlib import blake2b
from itertools import count as numbers

import numpy as np
import torch
from torch import Tensor

from thalweg.data.batch import Batch, cut, part_of, sent
from thalweg.data.dataset import Dataset
from thalweg.data.images.augment import Augment
from thalweg.data.images.load_pixels import release
from thalweg.data.images.progressive_resizing import Shrink
from thalweg.data.prefetch import prefetch, threads_to_spare
from thalweg.errors import DataError

READY_IMAGE_BYTES = 16 << 20  # a split of images that fits this as floats is normalised once
READY_VECTOR_BYTES = 1 << 30  # the same for vectors, which are floats in memory already
DEVICE_SHARE = 0.25  # of a GPU's free memory: a split that fits this is kept there
DEVICE_BYTES = 4 << 30  # the same for an accelerator that does not say what is free
RELEASE_BYTES = 8 << 20  # mapped by gathering before the pages are given back
FAULT_BYTES = 64 << 10  # what Linux maps around an address that is touched


class Batches:
    """The batches of one split: an endless stream from anywhere on, or one epoch.

    Batch `number` is the same whenever it is asked for, bit for bit: a run resumed in the middle of
    an epoch goes on as if it had never stopped.
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
        augment: Augment | None = None,
        channels_last: bool = True,
        device: torch.device | str = "cpu",
    ) -> None:
        self._split, self._rows = split, dataset.indices[split].astype(np.int64)
        self._size = min(batch_size, max(1, len(self._rows)))
        self._seed, self._shuffle, self._drop_last = seed, shuffle, drop_last
        self._channels_last = channels_last
        self._device, self._augment = torch.device(device), augment
        self._preprocessing = dataset.preprocessing
        self._array, self._touched = np.asarray(dataset.inputs), 0
        self._decoding = dataset.decoding
        self._ready, self._raw = self._held()
        # Where batches are picked: beside the samples, so that no pick waits for the device.
        is_held = self._ready is not None or self._raw is not None
        self._home = self._device if is_held else torch.device("cpu")
        self._targets = torch.from_numpy(dataset.targets[self._rows]).to(self._home)
        self._turns = self._first_turns() if augment and augment.alternating_flip else None
        self._orders: dict[int, tuple[Tensor, ...]] = {}
        if self._decoding is not None and shuffle:
            order = torch.cat(self._order(0)).numpy(force=True)
            self._decoding.prefer(self._rows[order].tolist())
        # The mean pixel, 0..255: after normalising, what is cut out says nothing.
        mean = dataset.preprocessing.mean[: self._array.shape[-1]]  # of grey images, one suffices
        self._fill = torch.tensor(mean, device=self._device) * 255

    def __len__(self) -> int:
        """Batches in an epoch."""
        full, rest = divmod(len(self._rows), self._size)
        return full if self._drop_last or not rest else full + 1

    def __iter__(self) -> Iterator[Batch]:
        """The first epoch, once."""
        for number in range(len(self)):
            yield self._batch(number)

    def every(self, first: int, step: int) -> Iterator[Batch]:
        """Of the first epoch every so manieth batch, from number `first` on."""
        for number in range(first, len(self), step):
            yield self._batch(number)

    def stream(
        self,
        start: int = 0,
        *,
        shrink: Shrink | None = None,
        ahead: bool = False,
        rank: int = 0,
        count: int = 1,
    ) -> Generator[Batch]:
        """Batches without end, from number `start` on; each pass is in an order of its own.

        `shrink` makes the images of the first ones smaller, before they are augmented. With `ahead`
        threads make those that come next while one is in use, where a core can be spared for it;
        they end when the stream is closed. Of `count` ranks each makes the inputs of its own rows
        alone, bit for bit those of the whole batch; the targets are those of all.
        Raises DataError, at the first batch, when the split is empty.
        """
        if not len(self):
            raise DataError(f"the split {self._split!r} is empty", fix="give it samples")
        is_held = self._ready is not None or self._raw is not None
        threads = threads_to_spare(self._device) if ahead and not is_held else 0
        make = partial(self._batch, shrink=shrink, rank=rank, count=count)
        if threads:
            yield from prefetch(make, start, threads=threads, device=self._device)
        with nullcontext() if self._decoding is None else self._decoding.paused():
            yield make(start)  # everybody waits for this one, and for the update that it is for
        for number in numbers(start + 1):
            yield make(number)

    def rows(self, number: int) -> np.ndarray:
        """Rows of the data set that are in batch `number`, int64: for naming its samples."""
        epoch, place = divmod(number, max(1, len(self)))
        return self._rows[self._order(epoch)[place].numpy(force=True)]

    def _batch(
        self, number: int, shrink: Shrink | None = None, *, rank: int = 0, count: int = 1
    ) -> Batch:
        epoch, place = divmod(number, len(self))
        picked = self._order(epoch)[place]
        if len(picked) < count:  # some have nothing to make
            return cut(self._batch(number, shrink), rank=rank, count=count)
        targets = self._targets.index_select(0, picked)
        part = part_of(len(picked), rank=rank, count=count)
        picked = part.of(picked)
        if self._ready is not None:
            inputs = self._ready.index_select(0, picked)
            return Batch(inputs if inputs.ndim == 2 else self._ordered(inputs), targets)
        raw = self._gathered(picked) if self._raw is None else self._raw.index_select(0, picked)
        if shrink is not None:
            raw = shrink(raw, number)
        if self._augment is not None:
            # A generator of its own: other batches may be made at the same time.
            chance = torch.Generator(self._device).manual_seed(_mixed(self._seed, epoch, place))
            mirrored = self._mirrored(picked, epoch)
            raw = self._augment(raw, chance, fill=self._fill, mirrored=mirrored, part=part)
        inputs = self._preprocessing.to_inputs(raw)
        return Batch(
            inputs if self._channels_last else inputs.contiguous(), sent(targets, self._device)
        )

    def _ordered(self, images: Tensor) -> Tensor:
        """[n, h, w, c] as [n, c, h, w], in the memory order that is wanted."""
        planes = images.permute(0, 3, 1, 2)
        return planes if self._channels_last else planes.contiguous()

    def _order(self, epoch: int) -> tuple[Tensor, ...]:
        """Positions in the split, a tensor a batch; shuffled anew for each epoch."""
        order = self._orders.get(epoch)
        if order is None:
            positions = torch.arange(len(self._rows))
            if self._shuffle:
                # On the CPU whatever the device: the same order everywhere.
                chance = torch.Generator().manual_seed(_mixed(self._seed, epoch, -1))
                positions = torch.randperm(len(self._rows), generator=chance)
            order = positions.to(self._home).split(self._size)
            # Two are kept, so that threads at either side of an epoch's end find theirs.
            self._orders = {**dict(list(self._orders.items())[-1:]), epoch: order}
        return order

    def _first_turns(self) -> Tensor:
        """Whether each sample is mirrored in the first epoch; on the CPU drawn, as the order is."""
        chance = torch.Generator().manual_seed(_mixed(self._seed, -1, -1))
        return (torch.rand(len(self._rows), generator=chance) < 0.5).to(self._home)

    def _mirrored(self, picked: Tensor, epoch: int) -> Tensor | None:
        """Which of these are mirrored by turns; None where that is left to chance.

        In any two epochs each sample is then seen both ways, where chance shows half of them twice
        the same way: Jordan 2024, arXiv:2404.00498 §3.6.
        """
        if self._turns is None:
            return None
        return sent(self._turns.index_select(0, picked) ^ bool(epoch % 2), self._device)

    def _held(self) -> tuple[Tensor | None, Tensor | None]:
        """The split, normalised or as it is, if it is held on the device; else None twice."""
        values = len(self._rows) * int(np.prod(self._array.shape[1:]))
        is_image = self._array.ndim == 4
        limit = READY_IMAGE_BYTES if is_image else READY_VECTOR_BYTES
        if self._augment is None and 4 * values <= limit:
            raw = torch.from_numpy(self._all()).to(self._device)
            ready = self._preprocessing.to_inputs(raw)
            return (ready.permute(0, 2, 3, 1) if is_image else ready), None
        # Nobody waits for all files to be decoded: while they are, batches are sent one by one.
        is_there = self._decoding is None or self._decoding.is_finished
        if is_there and values * self._array.itemsize <= room_on(self._device):
            return None, torch.from_numpy(self._all()).to(self._device)
        return None, None

    def _all(self) -> np.ndarray:
        if self._decoding is not None:
            self._decoding.wait_for(self._rows)
        return self._array[self._rows]

    def _gathered(self, picked: Tensor) -> Tensor:
        rows = self._rows[picked.numpy()]
        if self._decoding is not None:
            self._decoding.wait_for(rows)
        gathered = torch.from_numpy(self._array.take(rows, axis=0))
        self._touched += len(rows) * max(self._array[0].nbytes, FAULT_BYTES)
        if self._touched > RELEASE_BYTES:
            release(self._array)
            self._touched = 0
        return sent(gathered, self._device)


def room_on(device: torch.device) -> float:
    """Bytes of an accelerator's memory that a split may take; 0 on the CPU, where it is mapped."""
    if device.type == "cuda":
        return DEVICE_SHARE * torch.cuda.mem_get_info(device)[0]
    return 0 if device.type == "cpu" else DEVICE_BYTES


def _mixed(seed: int, epoch: int, place: int) -> int:
    """A generator's seed, far from that of its neighbours."""
    text = f"{seed}/{epoch}/{place}".encode()
    return int.from_bytes(blake2b(text, digest_size=8).digest(), "little") >> 1
