"""The correlation of two tensors' numbers."""

from torch import Tensor


def correlation(first: Tensor, second: Tensor) -> float:
    """Pearson's r of two tensors of one size, entry by entry; 0 where one is constant."""
    one, other = (t.flatten().double() - t.double().mean() for t in (first, second))
    scale = float(one.norm() * other.norm())
    return float(one @ other) / scale if scale > 0 else 0.0
