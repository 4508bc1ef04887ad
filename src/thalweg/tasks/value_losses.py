"""Losses of values, by name: means over the samples, of outputs and standardised targets."""

from collections.abc import Callable

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from thalweg.registry import Registry


def mse(outputs: Float[Tensor, " sample"], targets: Float[Tensor, " sample"]) -> Float[Tensor, ""]:
    """Mean (output − target)²: its best constant is the mean."""
    return F.mse_loss(outputs, targets)


def mae(outputs: Float[Tensor, " sample"], targets: Float[Tensor, " sample"]) -> Float[Tensor, ""]:
    """Mean |output − target|: its best constant is the median, so outliers weigh little."""
    return F.l1_loss(outputs, targets)


def huber(
    outputs: Float[Tensor, " sample"], targets: Float[Tensor, " sample"], *, delta: float = 1.0
) -> Float[Tensor, ""]:
    """½ e² up to |e| = δ, δ (|e| − ½ δ) beyond. Source: Huber 1964 (Ann. Math. Statist.)."""
    return F.huber_loss(outputs, targets, delta=delta)


VALUE_LOSSES: Registry[Callable[..., Tensor]] = Registry("loss", (mse, mae, huber))
