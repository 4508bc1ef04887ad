"""Which weights decay, and which are trained for how long."""

from collections.abc import Iterable
from typing import Any

from torch import nn


def weight_groups(
    named_weights: Iterable[tuple[str, nn.Parameter]], *, weight_decay: float
) -> list[dict[str, Any]]:
    """Optimizer groups: "weights", which decay, and "biases and norms", which do not.

    Shrinking a bias or a normalisation's scale regularises nothing and costs accuracy:
    He et al. 2019, arXiv:1812.01187 §3.1. They are the trainable tensors of less than two
    dimensions. Frozen weights are in neither group.
    """
    trainable = [weight for _, weight in named_weights if weight.requires_grad]
    matrices = [weight for weight in trainable if weight.ndim >= 2]
    vectors = [weight for weight in trainable if weight.ndim < 2]
    groups: list[dict[str, Any]] = [
        {"name": "weights", "params": matrices, "weight_decay": weight_decay},
        {"name": "biases and norms", "params": vectors, "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def share_left(group: dict[str, Any], progress: float) -> float:
    """What is left of a training of its own, up to `until`, that a group may have; 1 without.

    When that is over, no gradient is computed for its weights, nor for what lies before them.
    """
    until = group.get("until", 1.0)
    if until == 1.0 or progress < until:
        return 1.0 if until == 1.0 else 1 - progress / until
    for weight in group["params"]:
        weight.requires_grad_(False)
    return 0.0
