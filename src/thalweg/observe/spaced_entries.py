"""Evenly spaced entries of a large tensor: views, so that nothing is copied but what is kept.

The watcher may not need memory of the size of the weights or of the logits. It reads all of a
small tensor, and of a large one as many entries as its share of a fixed budget allows.
"""

from collections.abc import Sequence
from math import ceil, prod

import torch
from torch import Tensor

MOST_OF_WEIGHTS = 8 * 2**20  # bytes of all weights that are copied before an update
MOST_OF_OUTPUT = 6 * 2**20  # bytes of an output, of its gradient, of its targets
AT_ONCE = 2**20  # numbers, or rows of what is not contiguous
HALF = (torch.float16, torch.bfloat16)


def entries_per_tensor(tensors: Sequence[Tensor], most_bytes: int = MOST_OF_WEIGHTS) -> list[int]:
    """Entries to read of each tensor: all while they fit together, else at most an equal share."""
    sizes = [tensor.numel() for tensor in tensors]
    memory = [tensor.numel() * tensor.element_size() for tensor in tensors]
    if sum(memory) <= most_bytes:
        return sizes
    share = most_bytes // len(tensors)
    small = [size for size in memory if size <= share]
    share = (most_bytes - sum(small)) // (len(memory) - len(small))
    return [
        tensor.numel() if size <= share else max(1, share // tensor.element_size())
        for tensor, size in zip(tensors, memory, strict=True)
    ]


def spaced_entries(tensor: Tensor, most: int) -> Tensor:
    """A view of at most `most` entries, evenly spaced in all dimensions alike.

    Both rows and columns are skipped: few whole rows of an embedding would miss the few that an
    update moves. Odd strides, since the parts of a stacked matrix repeat at even distances.
    """
    view = tensor
    while view.numel() > most:
        excess = view.numel() / most
        dims = sorted(range(view.ndim), key=lambda d: view.shape[d])[-1 if excess < 3 else -2 :]
        strides = [1] * view.ndim
        for dim in dims:
            strides[dim] = ceil(excess ** (1 / len(dims))) | 1
        view = strided(view, strides)
    return view


def output_strides(shape: Sequence[int], most: int) -> tuple[int, ...]:
    """Strides of all dimensions that leave at most `most` entries, and each prediction whole.

    Classes are dimension 1 of images, the last one of vectors and sequences. Positions are skipped
    before samples are.

    >>> output_strides((8, 2048, 50_000), 10**6), output_strides((32, 10), 10**6)
    ((1, 820, 1), (1, 1))
    """
    lengths, strides = list(shape), [1] * len(shape)
    classes = class_dimension(len(shape))
    for dim in [d for d in range(len(shape) - 1, -1, -1) if d != classes]:
        excess = prod(lengths) / most
        if excess > 1:
            strides[dim] = min(shape[dim], ceil(excess))
            lengths[dim] = ceil(shape[dim] / strides[dim])
    return tuple(strides)


def target_strides(shape: Sequence[int], output: Sequence[int], most: int) -> tuple[int, ...]:
    """Strides that leave the targets of those predictions which `output_strides` leaves."""
    strides, classes = output_strides(output, most), class_dimension(len(output))
    if tuple(shape) == tuple(output):
        return strides
    predictions = [length for dim, length in enumerate(output) if dim != classes]
    if list(shape) == predictions:
        return tuple(stride for dim, stride in enumerate(strides) if dim != classes)
    return output_strides((*shape, 1), most)[:-1]


def class_dimension(ndim: int) -> int | None:
    """The dimension that holds the numbers of one prediction; None where one number is all."""
    if ndim < 2:
        return None
    return 1 if ndim >= 4 else ndim - 1


def strided(tensor: Tensor, strides: Sequence[int]) -> Tensor:
    """A view of every so many entries of each dimension; the tensor itself for strides of 1."""
    if all(stride == 1 for stride in strides):
        return tensor
    return tensor[tuple(slice(None, None, stride) for stride in strides)]


def compact(tensor: Tensor) -> Tensor:
    """A copy of what is a small part of a larger memory, so that the rest can be freed."""
    if tensor.layout != torch.strided or tensor.is_nested or type(tensor) is not Tensor:
        return tensor
    own = tensor.numel() * tensor.element_size()
    return tensor.clone() if tensor.untyped_storage().nbytes() > 2 * own else tensor


def norms(tensors: Sequence[Tensor]) -> list[Tensor]:
    """The L2 norm of each tensor, without a temporary of its size.

    On the CPU half precision is summed in single precision, some numbers at a time: PyTorch's own
    sum in half precision stops growing, and a cast of all would be a copy.
    """
    if any(t.dtype in HALF and not t.is_cuda for t in tensors):
        return [_half_norm(t) if t.dtype in HALF else torch.linalg.vector_norm(t) for t in tensors]
    return list(torch._foreach_norm(list(tensors))) if tensors else []


def _half_norm(tensor: Tensor) -> Tensor:
    flat = tensor.view(-1) if tensor.is_contiguous() else tensor
    parts = [torch.linalg.vector_norm(part, dtype=torch.float32) for part in flat.split(AT_ONCE)]
    return torch.linalg.vector_norm(torch.stack(parts)) if parts else torch.zeros(())
