"""Optimizer groups: weights that decay, and weights that are trained for a part of the run."""

from collections.abc import Iterable
from typing import Any

from torch import nn


def weight_groups(
    named_weights: Iterable[tuple[str, nn.Parameter]], *, weight_decay: float
) -> list[dict[str, Any]]:
    """Optimizer groups: "weights", which decay, and "biases and norms", which do not.

    Shrinking a bias or a normalisation's scale regularises nothing and costs accuracy:
    He et al. 2019, arXiv:1812.01187 §3.1. They are the trainable tensors of fewer than
    two dimensions. Frozen weights are in neither group.
    """
    trainable = [weight for _, weight in named_weights if weight.requires_grad]
    matrices = [weight for weight in trainable if weight.ndim >= 2]
    vectors = [weight for weight in trainable if weight.ndim < 2]
    groups: list[dict[str, Any]] = [
        {"name": "weights", "params": matrices, "weight_decay": weight_decay},
        {"name": "biases and norms", "params": vectors, "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def decay_or_freeze(group: dict[str, Any], progress: float) -> float:
    """Return the group's own factor on the learning rate; freeze its weights once it is 0.

    The factor falls linearly to 0 at the group's `until`, a share of the training; without `until`
    it is 1. Frozen weights get no gradient, and backpropagation stops at the last trainable layer.
    """
    until = group.get("until", 1.0)
    if until == 1.0 or progress < until:
        return 1.0 if until == 1.0 else 1 - progress / until
    for weight in group["params"]:
        weight.requires_grad_(False)
    return 0.0
