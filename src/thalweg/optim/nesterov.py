"""SGD with Nesterov momentum."""

from collections.abc import Iterable

import torch
from torch import nn

from thalweg.errors import UsageError
from thalweg.optim.compiler_free import compiler_free
from thalweg.optim.groups import weight_groups


def nesterov(
    named_weights: Iterable[tuple[str, nn.Parameter]],
    *,
    lr: float,
    weight_decay: float,
    momentum: float,
) -> torch.optim.SGD:
    """Run PyTorch's SGD with Nesterov momentum; stable up to a smaller lr than plain momentum.

    Source: Sutskever et al. 2013 (ICML), §2. Raises UsageError for momentum 0.
    """
    if not momentum > 0:
        raise UsageError(
            "nesterov needs a positive momentum",
            seen=f"momentum={momentum}",
            fix="momentum=0.9, or optimizer=sgd",
        )
    groups = weight_groups(named_weights, weight_decay=weight_decay)
    return compiler_free(torch.optim.SGD)(
        groups, lr=lr, momentum=momentum, nesterov=True, fused=True
    )
