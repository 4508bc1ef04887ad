"""The arithmetic that every preprocessing shares: (value − mean) / std as one fused pass."""

from collections.abc import Mapping
from functools import lru_cache
from math import isfinite
from typing import Any

import torch
from torch import Tensor

Statistics = tuple[float, ...]


@lru_cache(maxsize=16)
def affine(
    mean: Statistics, std: Statistics, *, unit: float = 1.0, device: str
) -> tuple[Tensor, Tensor]:
    """Scale and bias such that raw · scale + bias is normalised, on the device.

    Raw values are divided by `unit` first.
    """
    with torch.inference_mode(False):  # else the cached tensors would be of no use to autograd
        means = torch.tensor(mean, dtype=torch.float64)
        stds = torch.tensor(std, dtype=torch.float64)
        scale, bias = 1 / (unit * stds), -means / stds
        return scale.float().to(device), bias.float().to(device)


def recorded_text(values: Mapping[str, Any]) -> str:
    """The `repr` of a preprocessing: fingerprints in recorded runs are made of this text."""
    return f"Preprocessing({', '.join(f'{name}={value!r}' for name, value in values.items())})"


def recorded_moments(values: Mapping[str, Any]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """The mean and the deviation of a recorded preprocessing.

    Raises: ValueError where they are no numbers to normalise by; KeyError, TypeError.
    """
    mean, std = (tuple(map(float, values[name])) for name in ("mean", "std"))
    if len(mean) != len(std) or not all(map(isfinite, mean + std)) or not all(s > 0 for s in std):
        raise ValueError(f"mean {str(mean)[:40]}, std {str(std)[:40]}")
    return mean, std
