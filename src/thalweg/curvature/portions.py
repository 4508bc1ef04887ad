"""The data that a loss is measured on: batches with the share of all samples that each holds."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from thalweg.errors import UsageError


class Portion(NamedTuple):
    """One batch and its share of all samples: what makes ragged batches weigh rightly."""

    inputs: Any
    targets: Any
    share: float


def portions_of(
    batches: Iterable[Sequence[Any]], device: torch.device, dtype: torch.dtype
) -> list[Portion]:
    pairs = [(batch[0], batch[1]) for batch in batches]
    total = sum(rows(targets) for _, targets in pairs)
    if not total:
        raise UsageError(
            "there is no data to measure the loss on",
            seen=f"{len(pairs)} batches",
            fix="pass batches that hold at least one (inputs, targets) pair; an iterator that "
            "was read before is empty: pass the list or the loader itself",
        )
    return [
        Portion(
            _placed(inputs, device, dtype), _placed(targets, device, dtype), rows(targets) / total
        )
        for inputs, targets in pairs
    ]


def rows(targets: Any) -> int:
    if isinstance(targets, Mapping):
        return rows(next(iter(targets.values())))
    if isinstance(targets, tuple | list):
        return rows(targets[0])
    return len(targets)


def _placed(data: Any, device: torch.device, dtype: torch.dtype) -> Any:
    if isinstance(data, Tensor):
        own = data.clone() if data.is_inference() else data.detach()
        return own.to(device, dtype if data.is_floating_point() else data.dtype)
    if isinstance(data, Mapping):
        return {key: _placed(value, device, dtype) for key, value in data.items()}
    if isinstance(data, tuple | list):
        return tuple(_placed(value, device, dtype) for value in data)
    return data


def regrouped(portions: Iterable[Portion], groups: int) -> list[Portion]:
    """The same samples cut into at least `groups` equal-ish portions, as far as samples go."""
    pieces: list[tuple[Any, Any]] = []
    listed = list(portions)
    wanted = max(1, -(-groups // len(listed)))
    for portion in listed:
        count = rows(portion.targets)
        cuts = np.linspace(0, count, min(wanted, count) + 1).astype(int).tolist()
        pieces.extend(
            (_cut(portion.inputs, a, b), _cut(portion.targets, a, b)) for a, b in pairwise(cuts)
        )
    total = sum(rows(targets) for _, targets in pieces)
    return [Portion(inputs, targets, rows(targets) / total) for inputs, targets in pieces]


def _cut(data: Any, start: int, end: int) -> Any:
    if isinstance(data, Tensor):
        return data[start:end]
    if isinstance(data, Mapping):
        return {key: _cut(value, start, end) for key, value in data.items()}
    if isinstance(data, tuple | list):
        return tuple(_cut(value, start, end) for value in data)
    return data
