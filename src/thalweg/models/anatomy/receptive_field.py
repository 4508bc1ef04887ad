"""How many input pixels each layer's unit sees: in theory, and in effect.

In theory a stack of layers sees r ← r + (kernel − 1) · dilation · jump pixels, with jump the
product of the strides before (checklist I10, I11). In effect the middle of that square counts far
more than its rim: Luo et al. 2016, https://arxiv.org/abs/1701.04128.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from math import sqrt
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

ATEN = torch.ops.aten


class Field(NamedTuple):
    size: int  # pixels along the side of the square that a unit depends on
    jump: int  # pixels between two neighbouring units


START = Field(1, 1)


class FieldTracer(TorchDispatchMode):
    """Follows fields through whatever a forward pass computes: skips and functions too.

    A result sees what the argument with the largest field sees; convolutions and pooling add
    theirs; an average over all places or attention sees everything.
    """

    def __init__(self, image: Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.whole = Field(max(image.shape[2:], default=1), 1)
        self._known: dict[int, tuple[Tensor, Field]] = {}  # keeps tensors, lest ids be used again
        self.mark(image, START)

    def mark(self, tensor: Tensor, field: Field) -> None:
        self._known[id(tensor)] = (tensor, field)

    def of(self, tensor: Tensor) -> Field:
        return self._known[id(tensor)][1] if id(tensor) in self._known else START

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        before = [self.of(tensor) for tensor in _tensors(args)]
        seen = Field(
            max((field.size for field in before), default=1),
            max((field.jump for field in before), default=1),
        )
        for tensor in _tensors((result,)):
            self.mark(tensor, self._widened(func.overloadpacket, args, seen))
        return result

    def _widened(self, operator: Any, args: tuple[Any, ...], before: Field) -> Field:
        if operator in (ATEN.convolution, ATEN.max_pool2d_with_indices, ATEN.avg_pool2d):
            kernel, stride, dilation = _window(operator, args)
            return Field(before.size + (kernel - 1) * dilation * before.jump, before.jump * stride)
        if operator in (ATEN.mean, ATEN._adaptive_avg_pool2d) and args[0].ndim == 4:
            return self.whole
        return self.whole if "scaled_dot_product" in str(operator) else before


def _window(operator: Any, args: tuple[Any, ...]) -> tuple[int, int, int]:
    """Kernel, stride and dilation along the longer axis of the kernel."""
    if operator is ATEN.convolution:
        return max(args[1].shape[2:], default=1), args[3][0], args[5][0]
    stride = args[2][0] if len(args) > 2 and args[2] else args[1][0]
    return args[1][0], stride, 1


def _tensors(values: Iterable[Any]) -> Iterator[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, (list, tuple)):
            yield from _tensors(value)


@contextmanager
def _unchanged(model: nn.Module) -> Iterator[None]:
    """Evaluation mode, then the modes and gradients of before."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training


def effective_field(
    model: nn.Module, layer: str, images: Float[Tensor, "batch channel y x"]
) -> Float[Tensor, "y x"]:
    """How much each pixel moves the middle unit of the layer, summing to 1: mean |∂unit / ∂pixel|.

    Cost: one forward and one backward pass. The model's own gradients are left alone.
    """
    seen: list[Tensor] = []
    handle = model.get_submodule(layer).register_forward_hook(
        lambda module, args, output: seen.append(output)
    )
    inputs = images.detach().requires_grad_()
    try:
        with _unchanged(model), torch.enable_grad():
            model(inputs)
    finally:
        handle.remove()
    output = seen[0]
    middle = output[:, :, output.shape[2] // 2, output.shape[3] // 2].sum()
    (gradient,) = torch.autograd.grad(middle, inputs)
    weight = gradient.abs().sum((0, 1))
    return weight / weight.sum().clamp_min(torch.finfo(weight.dtype).tiny)


def effective_size(weight: Float[Tensor, "y x"]) -> float:
    """Side of the square that a field of this spread would fill evenly, in pixels: √12 · std."""
    across = weight.sum(0)
    places = torch.arange(len(across), dtype=weight.dtype, device=weight.device)
    mean = (across * places).sum()
    return sqrt(12 * (across * (places - mean).square()).sum().item() + 1)
