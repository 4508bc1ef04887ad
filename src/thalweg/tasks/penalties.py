"""What is added to a loss so that weights stay small or become zero. Biases and norms are spared.

`weight_decay` of an optimizer is L2 alone, and in AdamW not even that (checklist F14).
"""

from torch import Tensor, nn


def l2(model: nn.Module) -> Tensor:
    """Σ w²: spreads a preference over many small weights. Its gradient is 2w."""
    return sum((weight.square().sum() for weight in _matrices(model)), start=_zero(model))


def l1(model: nn.Module) -> Tensor:
    """Σ |w|: drives weights to exactly zero."""
    return sum((weight.abs().sum() for weight in _matrices(model)), start=_zero(model))


def elastic_net(model: nn.Module, *, beta: float) -> Tensor:
    """Σ β w² + |w|. Source: Zou & Hastie 2005 (JRSS B)."""
    return beta * l2(model) + l1(model)


def _matrices(model: nn.Module) -> list[nn.Parameter]:
    return [weight for weight in model.parameters() if weight.requires_grad and weight.ndim >= 2]


def _zero(model: nn.Module) -> Tensor:
    return next(model.parameters()).new_zeros(())
