"""Find the operation that makes the first NaN: a pass of a copy with fresh, finite weights.

After a run has become NaN, its weights show nothing. A cause in the data or the structure, such as
a row of attention that is masked entirely, gives NaN with any weights.
"""

import sys
from collections.abc import Mapping
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from thalweg.borrow import preserve_random_state
from thalweg.observe.bare_copy import bare_copy
from thalweg.observe.forward_pass import tensors
from thalweg.observe.isolation import isolated

MOST_BYTES = 64 * 2**20  # of weights that are drawn anew


class NanFinder(TorchDispatchMode):
    """Notes the first operation whose output is NaN where none of its inputs is."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.stack: list[str] = []
        self.origin = ""
        self.share = 0.0

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return "torch._dynamo" in sys.modules

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        if not self.origin and not any(map(_has_nan, tensors((args, kwargs or {})))):
            broken = next((each for each in tensors(out) if _has_nan(each)), None)
            if broken is not None and not func.overloadpacket.__name__.startswith("empty"):
                module = self.stack[-1] if self.stack else ""
                self.origin = f"{module}: {func.overloadpacket.__name__.strip('_')}"
                self.share = float(
                    broken.isnan().flatten(1 if broken.ndim > 1 else 0).any(-1).float().mean()
                )
        return out


def nan_origin(
    model: nn.Module, inputs: tuple[Any, ...], keywords: Mapping[str, Any]
) -> tuple[str, float] | None:
    """The module and operation of the first NaN, and its share of rows; None without any.

    None also where the weights are too large to be drawn anew.
    """
    weights = list(model.parameters())
    if sum(weight.numel() * weight.element_size() for weight in weights) > MOST_BYTES:
        return None
    finder = NanFinder()
    copy = bare_copy(model).train()
    with preserve_random_state(), torch.no_grad():
        _renew(copy)
    _note_modules(copy, finder.stack)
    with isolated(copy), finder:
        copy(*inputs, **keywords)
    return (finder.origin, finder.share) if finder.origin else None


def _renew(copy: nn.Module) -> None:
    """Give each module of the copy finite weights of its own, and finite statistics."""
    fresh: dict[int, nn.Parameter] = {}
    for module in copy.modules():
        for name, weight in module._parameters.items():
            if weight is not None:
                new = fresh.setdefault(id(weight), _fresh_weight(weight, name))
                module._parameters[name] = new
        for name, buffer in module._buffers.items():
            if buffer is not None and buffer.is_floating_point() and not name.endswith("mask"):
                filler = 1.0 if name == "running_var" else 0.0
                finite = torch.where(buffer.isnan(), torch.full_like(buffer, filler), buffer)
                module._buffers[name] = finite


def _fresh_weight(weight: Tensor, name: str) -> nn.Parameter:
    if weight.ndim < 2:
        values = torch.ones_like(weight) if name != "bias" else torch.zeros_like(weight)
    else:
        values = torch.randn_like(weight) / prod(weight.shape[1:]) ** 0.5
    return nn.Parameter(values, requires_grad=False)


def _note_modules(model: nn.Module, stack: list[str]) -> None:
    """Keep the name of the running module on top of the stack."""

    def leave(*_: object) -> None:
        stack.pop()

    for name, module in model.named_modules():
        module.register_forward_pre_hook(lambda *_, name=name: stack.append(name))
        module.register_forward_hook(leave, always_call=True)


def _has_nan(tensor: Tensor) -> bool:
    return tensor.is_floating_point() and bool(tensor.isnan().any())
