"""Facts of a DataLoader that its batches alone do not show: which samples its sampler can draw."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, SequentialSampler, WeightedRandomSampler


@dataclass(frozen=True, slots=True)
class LoaderFacts:
    """The size of a data set, and how many of its samples have a weight in its sampler."""

    samples: int
    weights: int  # that were passed to the sampler; 0 where it takes none
    drawable: int  # samples that can be drawn


def loader_facts(loader: Iterable[Any]) -> LoaderFacts | None:
    """Read the sampler of a torch DataLoader with weights; None for all others."""
    sampler = getattr(loader, "sampler", None)
    if not isinstance(loader, DataLoader) or not isinstance(sampler, WeightedRandomSampler):
        return None
    samples, weights = len(loader.dataset), torch.as_tensor(sampler.weights)  # type: ignore[arg-type]
    drawable = int((weights[:samples] > 0).sum())
    return LoaderFacts(samples=samples, weights=len(weights), drawable=drawable)


def change_when_read_again(loader: Iterable[Any], first: Tensor, again: Tensor) -> float | None:
    """Root mean square of the difference between two readings of a batch, in its std.

    None where another reading may hold other samples, and for whole numbers, such as tokens.
    """
    ordered = isinstance(loader, DataLoader) and isinstance(loader.sampler, SequentialSampler)
    if not ordered or first.shape != again.shape or not first.is_floating_point():
        return None
    if first.numel() < 2:
        return None
    difference = (again.double() - first.double()).square().mean().sqrt()
    return float(difference / first.double().std().clamp_min(1e-12))
