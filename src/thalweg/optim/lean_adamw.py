"""PyTorch's fused AdamW without most of its Python, which costs more than a small net's update."""

from functools import cache
from inspect import unwrap
from typing import Any, NamedTuple

import torch
from torch import Tensor

from thalweg.optim.compiler_free import compiler_free

Group = dict[str, Any]
_ORIGINAL = unwrap(torch.optim.AdamW.step)


class KernelLists(NamedTuple):
    """The tensors of one group, in the order that the kernel takes them."""

    weights: list[Tensor]
    gradients: list[Tensor]
    means: list[Tensor]
    squares: list[Tensor]
    counts: list[Tensor]  # of updates


@cache
def lean_adamw() -> type[torch.optim.AdamW]:
    """A subclass with the same updates, bit for bit.

    It calls the kernel itself where all weights are plain ones on the CPU and have a gradient, as
    in most updates; any other is PyTorch's own.
    """
    base = compiler_free(torch.optim.AdamW)
    return type(base.__name__, (base,), {"step": torch.no_grad()(_step)})


def _step(self: torch.optim.AdamW, closure: Any = None) -> Any:
    """Perform one update."""
    lists = None if closure is not None else _kernel_lists(self)
    if lists is None:
        return _ORIGINAL(self, closure)
    torch._foreach_add_([count for group in lists for count in group.counts], 1)
    for group, tensors in zip(self.param_groups, lists, strict=True):
        beta1, beta2 = group["betas"]
        torch._fused_adamw_(
            tensors.weights,
            tensors.gradients,
            tensors.means,
            tensors.squares,
            [],
            tensors.counts,
            lr=group["lr"],
            beta1=beta1,
            beta2=beta2,
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            amsgrad=False,
            maximize=False,
        )
    return None


def _kernel_lists(self: torch.optim.AdamW) -> list[KernelLists] | None:
    """The tensors of each group; None where they, or its settings, are not the usual ones."""
    if any(getattr(self, name, None) is not None for name in ("found_inf", "grad_scale")):
        return None
    lists = []
    for group in self.param_groups:
        weights = group["params"]
        gradients = [weight.grad for weight in weights if _has_plain_gradient(weight)]
        states = [self.state[weight] for weight in weights if weight in self.state]
        if not _is_usual(group) or not len(weights) == len(gradients) == len(states):
            return None
        names = ("exp_avg", "exp_avg_sq", "step")
        averages = [[state[name] for state in states] for name in names]
        lists.append(KernelLists(weights, gradients, *averages))
    return lists


def _is_usual(group: Group) -> bool:
    others = ("amsgrad", "maximize", "capturable", "differentiable")
    is_usual = group["fused"] and not any(group[name] for name in others)
    return bool(is_usual and isinstance(group["lr"], float))


def _has_plain_gradient(weight: Tensor) -> bool:
    gradient = weight.grad
    return (
        gradient is not None
        and weight.is_cpu
        and weight.dtype is torch.float32 is gradient.dtype
        and gradient.layout is torch.strided
    )
