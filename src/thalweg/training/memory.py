"""What a step takes of memory, and whether an error says that there was too little."""

import torch
from torch import Tensor, nn

OVERHEAD = 1.25  # gradients of activations and kernels' scratch, for one byte that is kept
COPIES = 4  # of the weights: themselves, their gradients, and two of the optimizer's
_OUT = ("out of memory", "can't allocate memory", "not enough memory", "cannot allocate memory")


def step_bytes(model: nn.Module, few: Tensor, *, samples: int) -> int:
    """What a step of so many samples takes in float32, about.

    A forward pass of a few shows which tensors the backward pass would read. (None at all on the
    meta device would do, but that loads PyTorch's compiler: a second.)
    """
    weights = {weight.data_ptr(): weight.nbytes for weight in model.parameters()}
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        output = model(few)
    sizes = [t.untyped_storage().nbytes() for place, t in kept.items() if place not in weights]
    del output
    return round(OVERHEAD * sum(sizes) * samples / len(few)) + COPIES * sum(weights.values())


def ran_out(error: Exception) -> bool:
    """Whether it says that there was no memory left, on whatever device."""
    text = str(error).lower()
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or any(s in text for s in _OUT)
