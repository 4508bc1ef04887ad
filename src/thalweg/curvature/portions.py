"""The batches that a loss is measured on, each with its share of all samples."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from thalweg.errors import UsageError


class Portion(NamedTuple):
    """One batch and its share of all samples, the weight of a batch of any size."""

    inputs: Any
    targets: Any
    share: float


def make_portions(
    batches: Iterable[Sequence[Any]], device: torch.device, dtype: torch.dtype
) -> list[Portion]:
    """Move (inputs, targets) batches to the device and dtype. Raises: UsageError for no data."""
    pairs = [(batch[0], batch[1]) for batch in batches]
    total = sum(num_samples(targets) for _, targets in pairs)
    if not total:
        raise UsageError(
            "there is no data to measure the loss on",
            seen=f"{len(pairs)} batches",
            fix="pass at least one (inputs, targets) pair; an iterator that was read before is "
            "empty: pass the list or the loader itself",
        )
    return [
        Portion(
            _to_device(inputs, device, dtype),
            _to_device(targets, device, dtype),
            num_samples(targets) / total,
        )
        for inputs, targets in pairs
    ]


def num_samples(targets: Any) -> int:
    """The number of rows of the targets."""
    if isinstance(targets, Mapping):
        return num_samples(next(iter(targets.values())))
    if isinstance(targets, tuple | list):
        return num_samples(targets[0])
    return len(targets)


def _to_device(data: Any, device: torch.device, dtype: torch.dtype) -> Any:
    if isinstance(data, Tensor):
        tensor = data.clone() if data.is_inference() else data.detach()
        return tensor.to(device, dtype if data.is_floating_point() else data.dtype)
    if isinstance(data, Mapping):
        return {key: _to_device(value, device, dtype) for key, value in data.items()}
    if isinstance(data, tuple | list):
        return tuple(_to_device(value, device, dtype) for value in data)
    return data


def regroup(portions: Iterable[Portion], groups: int) -> list[Portion]:
    """Cut the samples into at least `groups` portions of similar size, if there are as many."""
    pieces: list[tuple[Any, Any]] = []
    portions = list(portions)
    pieces_each = max(1, -(-groups // len(portions)))
    for portion in portions:
        count = num_samples(portion.targets)
        cuts = np.linspace(0, count, min(pieces_each, count) + 1).astype(int).tolist()
        pieces.extend(
            (_cut(portion.inputs, a, b), _cut(portion.targets, a, b)) for a, b in pairwise(cuts)
        )
    total = sum(num_samples(targets) for _, targets in pieces)
    return [Portion(inputs, targets, num_samples(targets) / total) for inputs, targets in pieces]


def _cut(data: Any, start: int, end: int) -> Any:
    if isinstance(data, Tensor):
        return data[start:end]
    if isinstance(data, Mapping):
        return {key: _cut(value, start, end) for key, value in data.items()}
    if isinstance(data, tuple | list):
        return tuple(_cut(value, start, end) for value in data)
    return data
