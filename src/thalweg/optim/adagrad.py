"""AdaGrad."""

from collections.abc import Iterable

import torch
from torch import nn

from thalweg.optim.groups import weight_groups
from thalweg.optim.lean import lean


def adagrad(
    named_weights: Iterable[tuple[str, nn.Parameter]],
    *,
    lr: float,
    weight_decay: float,
    momentum: float,
    eps: float = 1e-10,
) -> torch.optim.Adagrad:
    """PyTorch's; steps shrink like 1/√t. It has no momentum. Source: Duchi et al. 2011 (JMLR)."""
    groups = weight_groups(named_weights, weight_decay=weight_decay)
    on_cpu = all(weight.device.type == "cpu" for group in groups for weight in group["params"])
    # Fused on a GPU only in torch after 2.10 (pytorch#177672): there, PyTorch's own choice.
    return lean(torch.optim.Adagrad)(groups, lr=lr, eps=eps, fused=on_cpu or None)
