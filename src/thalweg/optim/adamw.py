from collections.abc import Iterable

import torch
from torch import nn

from thalweg.optim.groups import weight_groups
from thalweg.optim.lean import lean


def adamw(
    named_weights: Iterable[tuple[str, nn.Parameter]],
    *,
    lr: float,
    weight_decay: float,
    momentum: float,
    beta2: float = 0.999,
    eps: float = 1e-8,
) -> torch.optim.AdamW:
    """PyTorch's fused AdamW: Loshchilov, Hutter 2019, arXiv:1711.05101. `momentum` is β₁."""
    return lean(torch.optim.AdamW)(
        weight_groups(named_weights, weight_decay=weight_decay),
        lr=lr,
        betas=(momentum, beta2),
        eps=eps,
        fused=True,
    )
