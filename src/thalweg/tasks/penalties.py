"""Penalties on the weights, beside the loss: L1, L2, elastic net. Biases and norms are spared.

`weight_decay` of an optimizer is L2 alone, and in AdamW not even that.
"""

from collections.abc import Callable
from functools import partial

from torch import Tensor, nn

from thalweg.registry import Registry


def l2(model: nn.Module) -> Tensor:
    """Σ w²: spreads a preference over many small weights. Its gradient is 2w."""
    return sum((weight.square().sum() for weight in _matrices(model)), start=_zero(model))


def l1(model: nn.Module) -> Tensor:
    """Σ |w|: drives weights to exactly zero."""
    return sum((weight.abs().sum() for weight in _matrices(model)), start=_zero(model))


def elastic_net(model: nn.Module, *, beta: float = 1.0) -> Tensor:
    """Σ β w² + |w|. Source: Zou & Hastie 2005 (JRSS B)."""
    return beta * l2(model) + l1(model)


PENALTIES = Registry("penalty", (l1, l2, elastic_net))


def penalty(model: nn.Module, name: str, *, weight: float, beta: float) -> Callable[[], Tensor]:
    """A function that computes weight · R(model); `beta` is the elastic net's."""
    term = partial(elastic_net, beta=beta) if name == "elastic_net" else PENALTIES[name]
    return lambda: weight * term(model)


def _matrices(model: nn.Module) -> list[nn.Parameter]:
    return [weight for weight in model.parameters() if weight.requires_grad and weight.ndim >= 2]


def _zero(model: nn.Module) -> Tensor:
    return next(model.parameters()).new_zeros(())
