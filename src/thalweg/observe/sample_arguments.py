"""Take some samples of a real batch, whatever arguments the model takes: tensors, dicts, tuples."""

from collections.abc import Callable, Mapping, Sequence
from copy import copy
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from thalweg.observe.forward_pass import MOST_PROBED, ForwardPass, tensors

SAMPLES = (5, 3, 2)  # of a batch: primes, so that few other dimensions are multiples
LEAST_PLACES = 8  # of a sequence
PLAIN = (type(None), bool, int, float, str, torch.device, torch.dtype, torch.Size)


class Arguments(NamedTuple):
    """Arguments of one forward pass."""

    inputs: tuple[Any, ...]
    keywords: Mapping[str, Any]


class SampleAxis(NamedTuple):
    """The dimension of the arguments along which the samples of a batch may lie."""

    axis: int
    size: int


def arguments_of(forward: ForwardPass | None) -> Arguments | None:
    """The arguments of a pass; None where they hold what cannot be taken apart."""
    if forward is None:
        return None
    arguments = Arguments(tuple(forward.inputs), forward.keywords)
    return arguments if _is_transparent(tuple(arguments)) else None


def sample_axis(arguments: Arguments, axis: int) -> SampleAxis | None:
    """The samples along that dimension; None where the tensors do not agree on it.

    Also None where a square matrix relates the entries to each other: nodes of a graph.
    """
    every = [one for one in tensors(tuple(arguments)) if one.numel() > 1]
    if not every or every[0].ndim <= axis:
        return None
    size = every[0].shape[axis]
    batched = [one for one in every if _lies_along(one, axis, size)]
    shared = [one for one in every if not _lies_along(one, axis, size)]
    if size < 2 or not all(_is_shared(one, axis) for one in shared):
        return None
    if len(batched) > 1 and any(one.shape == (size, size) for one in batched):
        return None
    return SampleAxis(axis, size)


def num_samples(arguments: Arguments, along: SampleAxis) -> int:
    """Samples to take: few, unless integers beside other tensors may be positions in the batch.

    On a GPU a position out of range would be fatal to the user's run.
    """
    batched = [
        one
        for one in tensors(tuple(arguments))
        if one.numel() > 1 and _lies_along(one, along.axis, along.size)
    ]
    integers = any(not one.is_floating_point() for one in batched)
    if len(batched) > 1 and integers and any(one.is_cuda for one in batched):
        return along.size
    return next(number for number in SAMPLES if number <= along.size)


def selected_samples(arguments: Arguments, along: SampleAxis, indices: Sequence[int]) -> Arguments:
    """Copies of these samples, in this order."""

    def select(tensor: Tensor) -> Tensor:
        if tensor.numel() > 1 and _lies_along(tensor, along.axis, along.size):
            index = torch.tensor(indices, device=tensor.device)
            return tensor.detach().index_select(along.axis, index)
        return tensor.detach().clone()

    return map_tensors(arguments, select)


def shortened(
    arguments: Arguments,
    output: tuple[int, int, int],
    *,
    samples: int,
    axes: tuple[int, int] = (0, 1),
) -> Arguments | None:
    """A few sequences, cut so that their output becomes small; None if they cannot be cut.

    `output` is [sequence, time, class]; `axes` are the arguments' dimensions of sequences and time.
    The whole batch where it is small enough, and the arguments do not agree on its dimension.
    """
    batch_axis, time_axis = axes
    along = sample_axis(arguments, batch_axis)
    sequences = output[0] if along is None else min(samples, along.size)
    if along is not None:
        arguments = selected_samples(arguments, along, range(sequences))
    else:
        arguments = map_tensors(arguments, lambda one: one.detach().clone())
    _, length, width = output
    most = MOST_PROBED // (4 * max(1, sequences * width))
    if most >= length:
        return arguments
    every = [one for one in tensors(tuple(arguments)) if one.numel() > 1]
    if most < LEAST_PLACES or any(not _lies_along(one, time_axis, length) for one in every):
        return None
    return map_tensors(
        arguments, lambda one: one.narrow(time_axis, 0, most) if one.ndim > 1 else one
    )


def map_tensors(arguments: Arguments, change: Callable[[Tensor], Tensor]) -> Arguments:
    """The arguments with every tensor changed."""
    return Arguments(_map(arguments.inputs, change), _map(arguments.keywords, change))


def _map(tree: Any, change: Callable[[Tensor], Tensor]) -> Any:
    if isinstance(tree, Tensor):
        return change(tree)
    if isinstance(tree, Mapping):
        duplicate: Any = copy(tree)
        for key, value in tree.items():
            duplicate[key] = _map(value, change)
        return duplicate
    if isinstance(tree, (tuple, list)):
        entries = [_map(value, change) for value in tree]
        build = getattr(type(tree), "_make", type(tree))  # a named tuple's constructor
        return build(entries)
    return tree


def _is_transparent(tree: Any) -> bool:
    """True if all that the tree holds are plain values and dense tensors."""
    if isinstance(tree, PackedSequence):
        return False
    if isinstance(tree, Tensor):
        return tree.layout == torch.strided and not tree.is_nested and not tree.is_quantized
    if isinstance(tree, Mapping):
        return all(_is_transparent(value) for value in tree.values())
    if isinstance(tree, (tuple, list)):
        return all(_is_transparent(value) for value in tree)
    return isinstance(tree, PLAIN)


def _lies_along(tensor: Tensor, axis: int, size: int) -> bool:
    return tensor.ndim > axis and tensor.shape[axis] == size


def _is_shared(tensor: Tensor, axis: int) -> bool:
    """True for what all samples share: a mask between positions, or what is broadcast."""
    if tensor.ndim <= axis or tensor.shape[axis] == 1:
        return True
    square = tensor.ndim >= 2 and tensor.shape[-1] == tensor.shape[-2]
    return square and (tensor.dtype == torch.bool or tensor.is_floating_point())
