"""Receptive fields: the input pixels that a unit of a layer depends on.

The theoretical field grows by r ← r + (kernel − 1) · dilation · jump pixels a layer, with jump the
product of the strides before. In the effective field the centre of that square counts far more
than its border: Luo et al. 2016, https://arxiv.org/abs/1701.04128.
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
    """Trace receptive fields through all operations of a forward pass, skips included.

    A result takes the field of the argument with the largest one; convolutions and pooling widen
    it; a global average or attention sees the whole image.
    """

    def __init__(self, image: Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.whole = Field(max(image.shape[2:], default=1), 1)
        self._fields: dict[int, tuple[Tensor, Field]] = {}  # keeps tensors, so that no id is reused
        self.mark(image, START)

    def mark(self, tensor: Tensor, field: Field) -> None:
        self._fields[id(tensor)] = (tensor, field)

    def field_of(self, tensor: Tensor) -> Field:
        return self._fields[id(tensor)][1] if id(tensor) in self._fields else START

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        fields = [self.field_of(tensor) for tensor in _tensors(args)]
        largest = Field(
            max((field.size for field in fields), default=1),
            max((field.jump for field in fields), default=1),
        )
        for tensor in _tensors((result,)):
            self.mark(tensor, self._field_after(func.overloadpacket, args, largest))
        return result

    def _field_after(self, operator: Any, args: tuple[Any, ...], before: Field) -> Field:
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
def _evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Switch to evaluation mode, then restore each module's mode."""
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
    """The influence of each pixel on the layer's central unit: mean |∂unit / ∂pixel|, sum 1.

    Cost: one forward and one backward pass. The model's own gradients do not change.
    """
    outputs: list[Tensor] = []
    handle = model.get_submodule(layer).register_forward_hook(
        lambda module, args, output: outputs.append(output)
    )
    inputs = images.detach().requires_grad_()
    try:
        with _evaluation_mode(model), torch.enable_grad():
            model(inputs)
    finally:
        handle.remove()
    output = outputs[0]
    centre = output[:, :, output.shape[2] // 2, output.shape[3] // 2].sum()
    (gradient,) = torch.autograd.grad(centre, inputs)
    weight = gradient.abs().sum((0, 1))
    return weight / weight.sum().clamp_min(torch.finfo(weight.dtype).tiny)


def effective_size(weight: Float[Tensor, "y x"]) -> float:
    """Side in pixels of the uniform square with the same spread: √12 · std."""
    profile = weight.sum(0)
    columns = torch.arange(len(profile), dtype=weight.dtype, device=weight.device)
    mean = (profile * columns).sum()
    return sqrt(12 * (profile * (columns - mean).square()).sum().item() + 1)
