"""One rank's part of a distributed tensor: no rank waits for another one."""

from math import sqrt
from typing import Any

import torch
from torch import Tensor


def local_part(tensor: Tensor) -> Tensor:
    """This rank's shard of a distributed tensor; any other tensor itself."""
    return torch.as_tensor(tensor.to_local()) if is_distributed(tensor) else tensor  # type: ignore[attr-defined]


def local_gradient(weight: Tensor) -> Tensor | None:
    """This rank's shard of the gradient; None where it is but one term of a sum over ranks."""
    gradient = weight.grad
    if gradient is None or not is_distributed(gradient):
        return gradient
    return None if _is_partial(gradient) else local_part(gradient)


def whole_norm_factor(weight: Tensor) -> float:
    """√(numbers of the whole weight / numbers of the shard): estimates the whole's L2 norm."""
    part = local_part(weight).numel()
    return sqrt(weight.numel() / part) if part else 1.0


def is_sharded(tensor: Tensor) -> bool:
    """True if this rank holds a part of the tensor only."""
    return is_distributed(tensor) and local_part(tensor).numel() != tensor.numel()


def whole_value(tensor: Tensor) -> Tensor | None:
    """The whole tensor where this rank has it; None where others hold parts of it."""
    if not is_distributed(tensor):
        return tensor
    whole = all(placement.is_replicate() for placement in tensor.placements)  # type: ignore[attr-defined]
    return local_part(tensor) if whole else None


def is_distributed(tensor: Any) -> bool:
    """True for a DTensor."""
    return hasattr(tensor, "to_local") and hasattr(tensor, "placements")


def _is_partial(tensor: Any) -> bool:
    return any(placement.is_partial() for placement in tensor.placements)
