"""The layers of a network: output shapes, weights, FLOPs, memory, receptive field.

Tracing uses meta tensors, which have a shape but no values, so that it takes neither time nor
memory. A FLOP is one multiplication or one addition; like PyTorch's FlopCounterMode, it counts
matrix products and convolutions only.
"""

from collections.abc import Callable, Mapping
from copy import deepcopy
from math import prod
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from thalweg.models.anatomy.receptive_field import FieldTracer
from thalweg.models.sequences.transformer import SelfAttention
from thalweg.models.vit import Attention


class LayerSummary(NamedTuple):
    name: str
    kind: str
    output_shape: tuple[int, ...]  # of one sample
    weights: int
    flops: int  # of one sample's forward pass
    output_bytes: int  # of one sample, in float32
    receptive_field: int  # pixels


class Summary(NamedTuple):
    layers: tuple[LayerSummary, ...]
    weights: int
    flops: int
    activation_bytes: int  # of all outputs of one sample, which training keeps
    weight_bytes: int


def summary(
    model: nn.Module, input_shape: tuple[int, ...] | Tensor | Mapping[str, Tensor]
) -> Summary:
    """One row per innermost layer, in the order in which they run.

    The model itself does not run, change or move: a copy on the meta device does. An
    example of one sample can stand for the shape: token numbers, or several tensors by name.
    """
    traced = _meta_copy(model)
    inputs: list[Tensor] = []
    group: dict[str, Tensor] = {}
    if isinstance(input_shape, tuple):
        inputs = [torch.empty(1, *input_shape, device="meta")]
    elif isinstance(input_shape, Tensor):
        inputs = [input_shape.to("meta")]
    else:
        group = {name: tensor.to("meta") for name, tensor in input_shape.items()}
    tracer, rows = FieldTracer(next(iter([*inputs, *group.values()]))), []

    def record(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple[Any, ...], result: Any) -> None:
            output: Tensor = result if isinstance(result, Tensor) else result[0]  # before the state
            if output is args[0]:
                return  # the identity, such as a shortcut that needs nothing
            if isinstance(module, nn.Linear) and args[0].ndim == 2:
                tracer.mark(output, tracer.whole)  # it reads all flattened pixels
            field = tracer.field_of(output).size
            rows.append(_row(name, module, inputs=args[0], output=output, field=field))

        return hook

    for name, module in traced.named_modules():
        if not list(module.children()) or isinstance(module, Attention | SelfAttention):
            module.register_forward_hook(record(name))
    with torch.no_grad(), tracer:
        traced(*inputs, **group)
    weights = sum(weight.numel() for weight in traced.parameters())
    return Summary(
        layers=tuple(rows),
        weights=weights,
        flops=sum(row.flops for row in rows),
        activation_bytes=sum(row.output_bytes for row in rows),
        weight_bytes=4 * weights,
    )


def _meta_copy(model: nn.Module) -> nn.Module:
    """A copy on the meta device; no weight is copied."""
    memo: dict[int, object] = {}
    for tensor in [*model.parameters(), *model.buffers()]:
        empty = torch.empty_like(tensor, device="meta")
        memo[id(tensor)] = nn.Parameter(empty) if isinstance(tensor, nn.Parameter) else empty
    return deepcopy(model, memo).eval()


def _row(
    name: str, module: nn.Module, *, inputs: Tensor, output: Tensor, field: int
) -> LayerSummary:
    shape = tuple(output.shape[1:])
    weights = sum(weight.numel() for weight in module.parameters(recurse=False))
    return LayerSummary(
        name=name,
        kind=type(module).__name__,
        output_shape=shape,
        weights=weights,
        flops=_flops(module, inputs, shape),
        output_bytes=4 * prod(shape),
        receptive_field=field,
    )


def _flops(module: nn.Module, inputs: Tensor, shape: tuple[int, ...]) -> int:
    """Two per weight and position: a multiplication and an addition."""
    if isinstance(module, nn.Conv2d):
        return 2 * prod(shape) * module.weight[0].numel()
    if isinstance(module, nn.Linear):
        return 2 * prod(shape) * module.in_features
    if isinstance(module, nn.RNNBase):  # every weight at every step; biases are only added
        matrices = [weight.numel() for weight in module.parameters() if weight.ndim == 2]
        return 2 * inputs.shape[1] * sum(matrices)
    if isinstance(module, Attention | SelfAttention):  # queries · keys, then weights · values
        patches, dim = inputs.shape[1:]
        return 4 * patches * patches * dim
    return 0
