"""A sample of the user's data: the first batches of a loader, read without a trace."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Any

import torch
from torch import Tensor

from thalweg.borrow import preserve_random_state
from thalweg.observe.flipped_pictures import FlippedPictures, flipped_pictures
from thalweg.observe.loader_facts import LoaderFacts, change_when_read_again, loader_facts

MOST_SAMPLES = 2048
MOST_BYTES = 64 * 2**20  # as single precision, into which instruments turn them
IN_ORDER = 0.9  # share of neighbours of one class that a shuffled order hardly reaches
INPUT_NAMES = (
    *("inputs", "input", "x", "image", "images", "pixel_values", "input_ids", "data", "features"),
    *("img", "imgs", "tokens", "input_values", "input_features"),
)
TARGET_NAMES = ("targets", "target", "labels", "label", "y")
Pair = tuple[Tensor | None, Tensor | None]  # (inputs, targets)


@dataclass(frozen=True, slots=True)
class DataSample:
    """Inputs and targets of consecutive batches, on the CPU."""

    inputs: Tensor
    targets: Tensor | None
    batch_sizes: tuple[int, ...]  # in order
    facts: LoaderFacts | None = None  # of a loader whose sampler has weights
    is_part: bool = False  # the loader holds more than was read
    change: float | None = None  # of the first batch, read again; in std of the inputs
    flipped: FlippedPictures | None = None  # where samples, read again, are flipped or turned

    def __len__(self) -> int:
        return len(self.inputs)

    def rows(self, *, layout_of: "DataSample | None" = None) -> Tensor:
        """Inputs as [sample, feature], in the memory layout of `layout_of`: by pixel or channel.

        In this sample's own layout the rows are no copy.
        """
        like = self.inputs if layout_of is None else layout_of.inputs
        by_pixel = like.ndim == 4 and like.is_contiguous(memory_format=torch.channels_last)
        rows = self.inputs.permute(0, 2, 3, 1) if by_pixel else self.inputs
        return rows.flatten(1) if rows.ndim > 1 else rows[:, None]

    def digests(self, *, layout_of: "DataSample | None" = None) -> list[bytes]:
        """A hash of each sample's inputs; comparable with those of `layout_of`."""
        return row_digests(self.rows(layout_of=layout_of))

    def distinct_rows(self) -> Tensor:
        """Rows of the first occurrences; the batches of two epochs hold each sample twice."""
        first: dict[bytes, int] = {}
        for row, digest in enumerate(self.digests()):
            first.setdefault(digest, row)
        return torch.tensor(list(first.values()), dtype=torch.long)

    def part(self, most: int) -> "DataSample":
        """The first samples, or evenly spaced ones where they are in the order of their classes.

        The first ones are then no fair sample: they lack the last classes.
        """
        rows: slice | Tensor = slice(most)
        if self.is_in_order_of_classes and 0 < most < len(self):
            rows = torch.arange(most) * len(self) // most
        targets = None if self.targets is None else self.targets[rows]
        return replace(self, inputs=self.inputs[rows], targets=targets)

    @property
    def is_head_of_classes(self) -> bool:
        """True for the first samples of a loader in the order of its classes: not a fair sample."""
        return self.is_part and self.is_in_order_of_classes

    @property
    def is_in_order_of_classes(self) -> bool:
        """True where samples of one class stand together."""
        classes = self.classes
        if classes is None or len(classes) < 2:
            return False
        return float((classes[1:] == classes[:-1]).double().mean()) > IN_ORDER

    @property
    def classes(self) -> Tensor | None:
        """Class indices, one a sample; None where the targets are something else."""
        targets = self.targets
        if targets is None or targets.is_floating_point() or targets.dtype == torch.bool:
            return None
        flat = targets.reshape(len(targets), -1)
        return flat[:, 0].long() if flat.shape[1] == 1 else None


def read_sample(loader: Iterable[Any] | None, *, again: bool = False) -> DataSample | None:
    """Read the first batches; None for a one-shot iterator, which reading would use up.

    `again` reads the first one twice: a fixed order of fixed samples gives the same.
    """
    if loader is None or isinstance(loader, Iterator):
        return None
    pairs: list[tuple[Tensor, Tensor | None]] = []
    count = size = 0
    is_part = False
    with preserve_random_state(loader):
        for batch in loader:
            if count >= MOST_SAMPLES or size >= MOST_BYTES:
                is_part = True
                break
            inputs, targets = inputs_and_targets(batch)
            if inputs is None:
                return None
            pairs.append((inputs.detach().cpu(), None if targets is None else targets.cpu()))
            count, size = count + len(inputs), size + inputs.numel() * max(4, inputs.itemsize)
        change = _change(loader, pairs[0][0]) if again and pairs else None
        flipped = flipped_pictures(loader, inputs_and_targets) if pairs else None
    sample = concatenate(pairs)
    if sample is None:
        return None
    facts = loader_facts(loader)
    return replace(sample, facts=facts, change=change, flipped=flipped, is_part=is_part)


def _change(loader: Iterable[Any], first: Tensor) -> float | None:
    second, _ = inputs_and_targets(next(iter(loader), None))
    return None if second is None else change_when_read_again(loader, first, second.detach().cpu())


def concatenate(pairs: list[tuple[Tensor, Tensor | None]]) -> DataSample | None:
    """The batches as one; None where their shapes differ, as those of padded sequences do."""
    if not pairs or len({inputs.shape[1:] for inputs, _ in pairs}) > 1:
        return None
    targets = [t for _, t in pairs if t is not None and t.ndim > 0]
    alike = len(targets) == len(pairs) and len({t.shape[1:] for t in targets}) == 1
    return DataSample(
        inputs=torch.cat([inputs for inputs, _ in pairs]),
        targets=torch.cat(targets) if alike else None,
        batch_sizes=tuple(len(inputs) for inputs, _ in pairs),
    )


def inputs_and_targets(batch: Any) -> Pair:
    """The tensors of a batch that is a pair, or a mapping with the usual names."""
    if isinstance(batch, Mapping):
        inputs = next((batch[k] for k in INPUT_NAMES if k in batch), None)
        targets = next((batch[k] for k in TARGET_NAMES if k in batch), None)
    elif isinstance(batch, (tuple, list)) and batch:
        inputs, targets = batch[0], batch[1] if len(batch) > 1 else None
    else:
        inputs, targets = batch, None
    return (
        inputs if isinstance(inputs, Tensor) and inputs.ndim > 0 else None,
        targets if isinstance(targets, Tensor) else None,
    )


def row_digests(rows: Tensor) -> list[bytes]:
    """A hash of each row of a matrix."""
    if rows.dtype == torch.bfloat16:  # which NumPy has not
        rows = rows.view(torch.int16)
    return [blake2b(row.tobytes(), digest_size=12).digest() for row in rows.numpy()]
