"""Estimate the memory of a training step; recognise an out-of-memory error."""

import torch
from torch import Tensor, nn

from thalweg.data.batch import Inputs, forward, row_count

OVERHEAD = 1.25  # activation gradients and scratch memory, per byte saved for the backward pass
COPIES = 4  # of the weights: themselves, their gradients, two buffers of the optimizer
_OUT_OF_MEMORY = (
    "out of memory",
    "can't allocate memory",
    "not enough memory",
    "cannot allocate memory",
)


def step_bytes(model: nn.Module, few: Inputs, *, samples: int) -> int:
    """Estimate the bytes that a float32 step on `samples` samples takes.

    A forward pass on the inputs `few` shows which tensors autograd saves for the backward pass.
    (The meta device would need no inputs, but loads PyTorch's compiler, which takes a second.)
    """
    weights = {weight.data_ptr(): weight.nbytes for weight in model.parameters()}
    saved: dict[int, Tensor] = {}

    def record(tensor: Tensor) -> Tensor:
        saved[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(record, lambda tensor: tensor):
        output = forward(model, few)
    sizes = [t.untyped_storage().nbytes() for address, t in saved.items() if address not in weights]
    del output
    return round(OVERHEAD * sum(sizes) * samples / row_count(few)) + COPIES * sum(weights.values())


def is_out_of_memory(error: Exception) -> bool:
    """Return whether the error reports exhausted memory, on any device."""
    text = str(error).lower()
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or any(
        phrase in text for phrase in _OUT_OF_MEMORY
    )
