from collections.abc import Iterable

import torch
from torch import nn

from thalweg.optim.groups import weight_groups
from thalweg.optim.lean import lean


def sgd(
    named_weights: Iterable[tuple[str, nn.Parameter]],
    *,
    lr: float,
    weight_decay: float,
    momentum: float,
    nesterov: bool = True,
) -> torch.optim.SGD:
    """PyTorch's fused SGD; its momentum is Nesterov's: Sutskever et al. 2013 (ICML), §2."""
    return lean(torch.optim.SGD)(
        weight_groups(named_weights, weight_decay=weight_decay),
        lr=lr,
        momentum=momentum,
        nesterov=nesterov and momentum > 0,
        fused=True,
    )
