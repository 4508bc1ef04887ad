"""SGD with momentum."""

from collections.abc import Iterable

import torch
from torch import nn

from thalweg.optim.compiler_free import compiler_free
from thalweg.optim.groups import weight_groups


def sgd(
    named_weights: Iterable[tuple[str, nn.Parameter]],
    *,
    lr: float,
    weight_decay: float,
    momentum: float,
    nesterov: bool = True,
) -> torch.optim.SGD:
    """Run PyTorch's fused SGD; momentum is Nesterov's unless `nesterov` is false.

    Source: Sutskever et al. 2013 (ICML), §2.
    """
    return compiler_free(torch.optim.SGD)(
        weight_groups(named_weights, weight_decay=weight_decay),
        lr=lr,
        momentum=momentum,
        nesterov=nesterov and momentum > 0,
        fused=True,
    )
