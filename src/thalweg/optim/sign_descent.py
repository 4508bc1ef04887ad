"""Sign descent with momentum: every weight moves by exactly the learning rate, up or down.

Source: Chen et al. 2023 (Lion), https://arxiv.org/abs/2302.06675. Its learning rate is some
3 to 10 times smaller than AdamW's, its weight decay as many times larger.
"""

from collections.abc import Callable, Iterable

import torch
from torch import nn

from thalweg.optim.compiler_free import compiler_free
from thalweg.optim.groups import weight_groups

BETA2 = 0.99  # share of the buffer that a step keeps


class SignDescent(torch.optim.Optimizer):
    """Lion; its state is one buffer per weight."""

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                if weight not in self.state:
                    self.state[weight]["momentum"] = torch.zeros_like(weight)
                buffer = self.state[weight]["momentum"]
                direction = buffer.lerp(weight.grad, 1 - group["momentum"]).sign_()
                weight.mul_(1 - group["lr"] * group["weight_decay"])
                weight.sub_(direction, alpha=group["lr"])
                buffer.lerp_(weight.grad, 1 - group["beta2"])
        return loss


def sign_descent(
    named_weights: Iterable[tuple[str, nn.Parameter]],
    *,
    lr: float,
    weight_decay: float,
    momentum: float,
    beta2: float = BETA2,
) -> SignDescent:
    """Sign descent with momentum (Lion); `momentum` is the share of the buffer in the direction.

    `beta2` is the share of the buffer that a step keeps.
    """
    groups = weight_groups(named_weights, weight_decay=weight_decay)
    return compiler_free(SignDescent)(groups, {"lr": lr, "momentum": momentum, "beta2": beta2})
