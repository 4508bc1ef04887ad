"""A sample of the user's batches, read without disturbing the order or any random state."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import torch
from torch import Tensor

from thalweg.borrow import preserve_random_state

MOST_SAMPLES = 2048
MOST_BYTES = 64 * 2**20


@dataclass(frozen=True, slots=True)
class Samples:
    """Inputs and targets of consecutive batches, on the CPU."""

    inputs: Tensor
    targets: Tensor | None
    batches: tuple[int, ...]  # samples in each batch, in order
    whole: bool  # whether this is all that the loader gave

    def __len__(self) -> int:
        return len(self.inputs)

    def rows(self, *, as_in: "Samples | None" = None) -> Tensor:
        """Inputs as [sample, feature], by pixel or by channel: as the memory of `as_in` has them.

        Without another, as this one's own has: then it is no copy.
        """
        like = self.inputs if as_in is None else as_in.inputs
        by_pixel = like.ndim == 4 and like.is_contiguous(memory_format=torch.channels_last)
        return (self.inputs.permute(0, 2, 3, 1) if by_pixel else self.inputs).flatten(1)

    def digests(self, *, as_in: "Samples | None" = None) -> list[bytes]:
        """A hash of each sample's inputs; to be compared with those of `as_in`, where given."""
        table = self.rows(as_in=as_in).numpy()
        return [blake2b(row.tobytes(), digest_size=12).digest() for row in table]

    def distinct(self) -> Tensor:
        """Rows of the first occurrences; the batches of two epochs hold each sample twice."""
        first: dict[bytes, int] = {}
        for row, digest in enumerate(self.digests()):
            first.setdefault(digest, row)
        return torch.tensor(list(first.values()), dtype=torch.long)

    @property
    def classes(self) -> Tensor | None:
        """Class indices, one a sample; None where the targets are something else."""
        targets = self.targets
        if targets is None or targets.is_floating_point() or targets.dtype == torch.bool:
            return None
        flat = targets.reshape(len(targets), -1)
        return flat[:, 0].long() if flat.shape[1] == 1 else None


def gather(loader: Iterable[Any] | None) -> Samples | None:
    """The first samples of a loader; None for a one-shot iterator, which reading would use up."""
    if loader is None or isinstance(loader, Iterator):
        return None
    pairs: list[tuple[Tensor, Tensor | None]] = []
    count = size = 0
    whole = True
    with preserve_random_state(loader):
        for batch in loader:
            if count >= MOST_SAMPLES or size >= MOST_BYTES:
                whole = False
                break
            inputs, targets = pair(batch)
            if inputs is None:
                return None
            pairs.append((inputs.detach().cpu(), None if targets is None else targets.cpu()))
            count, size = count + len(inputs), size + inputs.numel() * inputs.element_size()
    return joined(pairs, whole=whole)


def joined(pairs: list[tuple[Tensor, Tensor | None]], *, whole: bool) -> Samples | None:
    """The batches as one; None where their shapes differ, as those of padded sequences do."""
    if not pairs or len({inputs.shape[1:] for inputs, _ in pairs}) > 1:
        return None
    targets = [t for _, t in pairs if t is not None and t.ndim > 0]
    same = len(targets) == len(pairs) and len({t.shape[1:] for t in targets}) == 1
    return Samples(
        inputs=torch.cat([inputs for inputs, _ in pairs]),
        targets=torch.cat(targets) if same else None,
        batches=tuple(len(inputs) for inputs, _ in pairs),
        whole=whole,
    )


def pair(batch: Any) -> tuple[Tensor | None, Tensor | None]:
    """(inputs, targets) of a batch given as a pair, or as a mapping with the usual names."""
    if isinstance(batch, dict):
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


INPUT_NAMES = ("inputs", "input", "x", "image", "images", "pixel_values", "input_ids", "data")
TARGET_NAMES = ("targets", "target", "labels", "label", "y")
