"""AdaGrad: every weight's step shrinks with the sum of its squared gradients."""

from collections.abc import Iterable

import torch
from torch import nn

from thalweg.optim.compiler_free import compiler_free
from thalweg.optim.groups import weight_groups


def adagrad(
    named_weights: Iterable[tuple[str, nn.Parameter]],
    *,
    lr: float,
    weight_decay: float,
    momentum: float,
    eps: float = 1e-10,
) -> torch.optim.Adagrad:
    """Run PyTorch's AdaGrad: steps shrink like 1/√t, without momentum.

    Source: Duchi et al. 2011 (JMLR).
    """
    groups = weight_groups(named_weights, weight_decay=weight_decay)
    on_cpu = all(weight.device.type == "cpu" for group in groups for weight in group["params"])
    # torch up to 2.10 has no fused kernel on a GPU (pytorch#177672): None lets PyTorch choose.
    return compiler_free(torch.optim.Adagrad)(groups, lr=lr, eps=eps, fused=on_cpu or None)
